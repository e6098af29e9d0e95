"""C51's losses: of TorchRL's value and gradients, and where the networks are."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torchrl.objectives import DistributionalDQNLoss
from torchrl.objectives.utils import _cache_values

from trainers.arrays import as_tensor, on_host
from trainers.config import C51Config
from trainers.losses.forward import discounts, plain_forward, shares
from trainers.losses.numpy_q import NumpyQNets
from trainers.networks.numpy_nets import Array, expected_returns
from trainers.tensordicts import tensordict_of


@plain_forward
class LeanC51Loss(DistributionalDQNLoss):
    """TorchRL's ``DistributionalDQNLoss``: the same keywords, state, value, gradients.

    Nothing goes through the CPU, or waits for it. Every atom of a target hands its probability to
    its neighbours by a product of matrices, whose sums come out the same every time on a GPU too.
    The loss is called ``loss_qvalue``; beside it is the mean value of what was done, ``qvalue``.

    Args:
        value_network: a ``DistributionalQValueActor`` for categorical actions.
        kwargs: TorchRL's own keywords.
    """

    capturable = True

    def forward(self, input_tensordict: TensorDictBase) -> TensorDictBase:
        """The loss of transitions ``[B]``; writes each one's as ``td_error`` ``[B]``."""
        data, keys = input_tensordict, self.tensor_keys
        support: Any = self.value_network_params["support"]
        log_p = _of(self._log_p(data, self.value_network_params), data[keys.action])
        with torch.no_grad():
            target = self._target(data, support)
        loss = -(target * log_p).sum(-1)
        data.set(keys.priority, loss.detach())
        loss = self._reduce_loss(
            loss, tensordict=data, weights=self._maybe_get_priority_weight(data)
        )
        qvalue = (log_p.detach().exp() @ support).mean()
        return tensordict_of({"loss_qvalue": loss, "qvalue": qvalue})

    def _log_p(self, data: TensorDictBase, parameters: Any) -> Tensor:
        """Of all atoms and actions, ``[B, num_atoms, num_actions]``."""
        network: Any = self.value_network
        *modules, _ = network.module  # the last one picks an action
        with parameters.to_module(self.value_network, preserve_module_state=False):
            asked = data.select(*self.value_network.in_keys)
            for module in modules:
                asked = module(asked)
        return asked[self.tensor_keys.action_value]

    def _target(self, data: TensorDictBase, support: Tensor) -> Tensor:
        """The distribution of returns ``[B, num_atoms]``; algorithm 1 of the paper.

        The next action is the network's, its distribution the target's, as in double Q-learning.
        """
        keys, following = self.tensor_keys, cast(TensorDictBase, data["next"])
        p = self._log_p(following, self.value_network_params).exp()
        best = (p * support.unsqueeze(-1)).sum(-2).argmax(-1)
        p = _of(self._log_p(following, self.target_value_network_params).exp(), best)

        gamma: Any = self.gamma
        discount = gamma ** data.get(keys.steps_to_next_obs, 1)
        returns = following[keys.reward] + ~following[keys.terminated] * discount * support
        low, high = support[0], support[-1]
        spacing = (high - low) / (len(support) - 1)
        position = (returns.clamp(low, high) - low) / spacing  # in atoms
        atoms = torch.arange(len(support), device=position.device)
        share = (1.0 - (position.unsqueeze(-1) - atoms).abs()).clamp(min=0.0)  # [B, from, to]
        return (p.unsqueeze(1) @ share).squeeze(1)


@plain_forward
class FastC51Loss(LeanC51Loss):
    """The same for the shipped networks, where they are small, written out in numpy.

    What it was not made for (other devices) goes the other's way.

    Args:
        value_network: a ``DistributionalQValueActor`` around a network for which :meth:`fits` is
            true.
        kwargs: TorchRL's own keywords.
    """

    @staticmethod
    def fits(network: nn.Module, config: C51Config) -> bool:
        """Whether this loss can stand in for TorchRL's."""
        return config.reduction != "none" and NumpyQNets.fit(network)

    @property
    @_cache_values  # until the parameters are moved to another device
    def _nets(self) -> NumpyQNets:
        return NumpyQNets(self)

    def forward(self, input_tensordict: TensorDictBase) -> TensorDictBase:
        """The loss of transitions ``[B]``; writes each one's as ``td_error`` ``[B]``."""
        data: dict[Any, Any] = dict(input_tensordict.items())
        if not on_host(data[self.tensor_keys.action]):
            return super().forward(input_tensordict)
        with np.errstate(all="ignore"):  # what is not finite shows in the loss
            losses, each = self._evaluate(data, dict(data["next"].items()))
        input_tensordict.set(self.tensor_keys.priority, torch.from_numpy(each))
        return losses

    def _evaluate(
        self, data: dict[Any, Any], following: dict[Any, Any]
    ) -> tuple[TensorDictBase, Array]:
        keys, (key,), nets = self.tensor_keys, self.value_network.in_keys, self._nets
        settings: Any = self  # TorchRL's, and its buffers
        support = settings.value_network_params["support"].numpy()
        observation, next_observation = data[key].numpy(), following[key].numpy()
        number, action = len(observation), data[keys.action].numpy()
        rows = np.arange(number)

        outputs = nets.network.forward(np.concatenate([observation, next_observation]))
        logits = nets.head.forward(outputs[-1])
        outputs = [output[:number] for output in outputs]
        best = expected_returns(logits[number:], support).argmax(-1)
        next_logits = nets.head.forward(nets.target.forward(next_observation)[-1])
        next_p = np.exp(_log_softmax(next_logits[rows, :, best]))
        log_p = _log_softmax(logits[rows, :, action])
        p = np.exp(log_p)

        discount = discounts(self, data).reshape(-1)  # [B], or one for all
        going_on = discount * ~following[keys.terminated].numpy()[:, 0]
        returns = following[keys.reward].numpy() + going_on[:, None] * support
        target = _projected(next_p, returns, support)
        each = -np.einsum("bz,bz->b", target, log_p)
        share = shares(self, data.get(keys.priority_weight), number)

        def gradient(weight: float) -> Array:
            d_logits = np.zeros((number, len(support), nets.head.num_actions), np.float32)
            slope = p * np.add.reduce(target, -1, keepdims=True) - target
            d_logits[rows, :, action] = np.reshape(weight * share, (-1, 1)) * slope
            return d_logits

        loss = nets.differentiable(np.add.reduce(each * share), outputs, gradient)
        qvalue = np.add.reduce(p @ support) / np.float32(number)
        return tensordict_of({"loss_qvalue": loss, "qvalue": as_tensor(qvalue)}), each


def _of(each: Tensor, action: Tensor) -> Tensor:
    """From ``[B, num_atoms, num_actions]`` what is of ``action`` ``[B]``: ``[B, num_atoms]``."""
    index = action.view(-1, 1, 1).expand(-1, each.shape[1], 1)
    return each.gather(-1, index).squeeze(-1)


def _log_softmax(logits: Array) -> Array:
    """Over the last dimension."""
    logits = logits - np.maximum.reduce(logits, -1, keepdims=True)
    return logits - np.log(np.add.reduce(np.exp(logits), -1, keepdims=True))


def _projected(p: Array, returns: Array, support: Array) -> Array:
    """Probabilities ``p`` of ``returns``, both ``[B, num_atoms]``, as ones of the atoms."""
    number, atoms = p.shape
    low, high = support[0], support[-1]
    inside = np.minimum(np.maximum(returns, low), high)
    position = (inside - low) * np.float32((atoms - 1) / (high - low))
    below = np.minimum(position.astype(np.int64), atoms - 2)
    upper = p * (position - below)
    index = (below + atoms * np.arange(number)[:, None]).ravel()
    size = number * atoms
    target = np.bincount(index, (p - upper).ravel(), size)
    target += np.bincount(index + 1, upper.ravel(), size)
    return target.astype(np.float32).reshape(number, atoms)

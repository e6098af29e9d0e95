"""DQN's losses: of TorchRL's values and gradients, for small networks on the CPU much faster."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torchrl.objectives import DQNLoss
from torchrl.objectives.utils import _cache_values, distance_loss
from torchrl.objectives.value import TD0Estimator

from trainers.arrays import DISTANCES, on_host
from trainers.config import DQNConfig
from trainers.losses.forward import discounts, plain_forward, shares
from trainers.losses.numpy_q import NumpyQNets
from trainers.networks.numpy_nets import Array
from trainers.tensordicts import tensordict_of


@plain_forward
class LeanDQNLoss(DQNLoss):
    """TorchRL's ``DQNLoss`` for categorical actions: the same keywords, state, value, gradients.

    The loss is called ``loss_qvalue``; beside it are the mean value of the actions taken,
    ``qvalue``, and the mean size of their errors, ``td_error``. The ``td_error`` written into the
    batch is the size of every error, where TorchRL's is its square.

    Args:
        value_network: a ``QValueActor``.
        kwargs: TorchRL's own keywords.
    """

    capturable = True

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """The loss of transitions ``[B]``, or of slices ``[B, T]``."""
        keys = self.tensor_keys
        values = self._values(tensordict, self.value_network_params)
        value = values.gather(-1, tensordict[keys.action].unsqueeze(-1))
        with torch.no_grad():
            estimator: Any = self.value_estimator
            next_value = self._next_value(tensordict["next"])
            target = estimator.value_estimate(tensordict, next_value=next_value)
            size = (value - target).abs().squeeze(-1)
        tensordict.set(keys.priority, size)
        loss = self._reduce_loss(
            distance_loss(value, target, str(self.loss_function)).squeeze(-1),
            tensordict=tensordict,
            weights=self._maybe_get_priority_weight(tensordict),
        )
        reported = {"qvalue": value.detach().mean(), "td_error": size.mean()}
        return tensordict_of({"loss_qvalue": loss, **reported})

    def _values(self, data: TensorDictBase, parameters: Any) -> Tensor:
        """Of all actions, ``[..., num_actions]``."""
        with parameters.to_module(self.value_network, preserve_module_state=False):
            asked = self.value_network(data.select(*self.value_network.in_keys))
        return asked[self.tensor_keys.action_value]

    def _next_value(self, following: TensorDictBase) -> Tensor:
        """Of the action that the target likes best, or, in double Q-learning, the network."""
        values = self._values(following, self.target_value_network_params)
        if not self.double_dqn:
            return values.amax(-1, keepdim=True)
        best = self._values(following, self.value_network_params).argmax(-1, keepdim=True)
        return values.gather(-1, best)


@plain_forward
class FastDQNLoss(LeanDQNLoss):
    """The same for the shipped networks, where they are small, written out in numpy.

    What it was not made for (slices, other devices) goes the other's way.

    Args:
        value_network: a ``QValueActor`` around a network for which :meth:`fits` is true.
        kwargs: TorchRL's own keywords.
    """

    @staticmethod
    def fits(network: nn.Module, config: DQNConfig) -> bool:
        """Whether this loss can stand in for TorchRL's."""
        usual = config.value_estimator == "td0" and config.reduction != "none"
        return usual and NumpyQNets.fit(network)

    @property
    @_cache_values  # until the parameters are moved to another device
    def _nets(self) -> NumpyQNets:
        return NumpyQNets(self)

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """The loss of transitions ``[B]``."""
        data: dict[Any, Any] = dict(tensordict.items())  # where a look takes a fifth of the time
        td0 = type(self.value_estimator) is TD0Estimator
        if not (td0 and len(tensordict.shape) == 1 and on_host(data[self.tensor_keys.action])):
            return super().forward(tensordict)
        with np.errstate(all="ignore"):  # what is not finite shows in the loss
            losses, size = self._evaluate(data, dict(data["next"].items()))
        tensordict.set(self.tensor_keys.priority, torch.from_numpy(size))
        return losses

    def _evaluate(
        self, data: dict[Any, Any], following: dict[Any, Any]
    ) -> tuple[TensorDictBase, Array]:
        keys, (key,), nets = self.tensor_keys, self.value_network.in_keys, self._nets
        observation, next_observation = data[key].numpy(), following[key].numpy()
        number, head = len(observation), nets.head
        rows = np.arange(number)
        taken = (rows, data[keys.action].numpy())

        next_values = head.forward(nets.target.forward(next_observation)[-1])
        if self.double_dqn:
            outputs = nets.network.forward(np.concatenate([observation, next_observation]))
            best = head.forward(outputs[-1][number:]).argmax(-1)
            outputs = [output[:number] for output in outputs]
        else:
            outputs = nets.network.forward(observation)
            best = next_values.argmax(-1)  # and to look there: less than half the time of max()
        next_value = next_values[rows, best]
        value = head.forward(outputs[-1])[taken]

        reward, terminated = (following[k].numpy()[:, 0] for k in (keys.reward, keys.terminated))
        discount = discounts(self.value_estimator, data).reshape(-1)  # [B], or one for all
        error = value - (reward + discount * (next_value * ~terminated))
        distance, slope = DISTANCES[str(self.loss_function)](np, error)
        share = shares(self, data.get(keys.priority_weight), number)

        def gradient(weight: float) -> Array:
            d_values = np.zeros((number, head.num_actions), np.float32)
            d_values[taken] = weight * share * slope
            return d_values

        loss = nets.differentiable(np.add.reduce(distance * share), outputs, gradient)
        size = np.abs(error)
        means = np.array([np.add.reduce(value), np.add.reduce(size)], np.float32) / number
        qvalue, td_error = torch.from_numpy(means).unbind()
        return tensordict_of({"loss_qvalue": loss, "qvalue": qvalue, "td_error": td_error}), size

"""SAC's loss without TensorDicts between its operations."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn
from torch.nn import functional
from torchrl.objectives import SACLoss
from torchrl.objectives.utils import _cache_values, distance_loss

from trainers.networks import StateActionValue, TanhNormalActor

_Layers = list[tuple[Tensor, Tensor]]


class FastSACLoss(SACLoss):
    """TorchRL's ``SACLoss`` for the shipped networks: the same keywords, state, values, gradients.

    TorchRL swaps parameters in and out of modules, maps over the critics with ``vmap`` and passes
    every intermediate result through a TensorDict; for networks of 256 units that takes longer than
    the arithmetic. Here the critics' stacked parameters are used as they are.

    Args:
        actor_network: the shipped actor.
        qvalue_network: critics made of the shipped :class:`~trainers.networks.StateActionValue`.
        kwargs: TorchRL's own keywords; see :meth:`fits`.
    """

    def __init__(
        self, actor_network: TanhNormalActor, qvalue_network: list[Any], **kwargs: Any
    ) -> None:
        super().__init__(actor_network, qvalue_network, **kwargs)
        # In a tuple, else their parameters would be registered a second time. The actor's are the
        # very ones this loss trains; of the critic only the layout is used.
        self._networks_used: tuple[Any, Any] = (actor_network, qvalue_network[0].module)

    @staticmethod
    def fits(actor: nn.Module, critics: list[nn.Module], skip_done_states: bool) -> bool:
        """Whether this loss can stand in for TorchRL's."""
        critics_fit = all(type(getattr(c, "module", None)) is StateActionValue for c in critics)
        return type(actor) is TanhNormalActor and critics_fit and not skip_done_states

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """The losses of a batch ``[B]`` of transitions; writes ``td_error`` ``[B]`` into it."""
        actor, _ = self._networks_used
        observation, action = tensordict["observation"], tensordict["action"]
        reward, terminated = tensordict["next", "reward"], tensordict["next", "terminated"]
        alpha = self._alpha
        layers, target_layers = self._cached_layers
        with torch.no_grad():
            next_observation = tensordict["next", "observation"]
            next_action, next_log_prob = actor.sample_and_log_prob(next_observation)
            next_q = self._q(target_layers, next_observation, next_action)
            next_value = (next_q - alpha * next_log_prob.unsqueeze(-1)).amin(0)
            target = reward + self._gamma * ~terminated * next_value
        q = self._q(layers, observation, action)
        target = target.expand_as(q)
        loss_qvalue = distance_loss(q, target, self.loss_function).mean((1, 2)).sum()

        new_action, log_prob = actor.sample_and_log_prob(observation)
        detached = [(weight.detach(), bias.detach()) for weight, bias in layers]
        new_q = self._q(detached, observation, new_action).amin(0).squeeze(-1)
        loss_actor = (alpha * log_prob - new_q).mean()
        log_prob = log_prob.detach()
        loss_alpha = self._alpha_loss(log_prob).mean()
        tensordict.set(self.tensor_keys.priority, (q.detach() - target).abs().amax(0).squeeze(-1))
        return TensorDict(
            {
                "loss_actor": loss_actor,
                "loss_qvalue": loss_qvalue,
                "loss_alpha": loss_alpha,
                "alpha": alpha,
                "entropy": -log_prob.mean(),
            }
        )

    @property
    def _gamma(self) -> Any:
        return self.value_estimator.gamma

    @property
    @_cache_values  # until the parameters are moved to another device
    def _cached_layers(self) -> tuple[_Layers, _Layers]:
        """Stacked weights and biases of the critics' linear layers, and of their targets'."""
        _, template = self._networks_used
        keys = [
            ("module", "net", str(index))
            for index, layer in enumerate(template.net)
            if isinstance(layer, nn.Linear)
        ]
        current, target = self.qvalue_network_params, self.target_qvalue_network_params
        return (
            [(current[(*key, "weight")], current[(*key, "bias")]) for key in keys],
            [(target[(*key, "weight")], target[(*key, "bias")]) for key in keys],
        )

    def _q(self, layers: _Layers, observation: Tensor, action: Tensor) -> Tensor:
        """Q-values ``[critics, B, 1]`` by stacked parameters ``[critics, ...]``."""
        _, template = self._networks_used
        values = [torch.cat([observation, action], -1)] * self.num_qvalue_nets
        remaining = iter(layers)
        for layer in template.net:
            if isinstance(layer, nn.Linear):
                weights, biases = next(remaining)
                each = zip(values, weights.unbind(), biases.unbind(), strict=True)
                values = [functional.linear(x, weight, bias) for x, weight, bias in each]
            else:
                values = [layer(x) for x in values]
        return torch.stack(values)

"""Losses of SAC's kind whose critics and actor can be updated apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.modules.distributions.utils import rsample_and_log_prob
from torchrl.objectives.utils import _cache_values, distance_loss

from trainers.losses.critics import stacked_critics
from trainers.networks.actors import TanhNormalActor
from trainers.networks.batch_renorm import frozen
from trainers.tensordicts import tensordict_of


class InParts:
    """Mixin of TorchRL's losses: :meth:`critic_losses` and :meth:`actor_losses` by themselves.

    Called as a whole the loss returns both. Importance weights (``priority_weight`` in a batch)
    weigh all of it, as in TorchRL's ``SACLoss``.
    """

    def forward(self: Any, tensordict: TensorDictBase) -> TensorDictBase:
        """All losses of a batch ``[...]`` of transitions; writes ``td_error`` ``[...]`` into it."""
        both = (self.critic_losses(tensordict), self.actor_losses(tensordict))
        return tensordict_of({key: value for part in both for key, value in part.items()})

    def critic_losses(self, data: TensorDictBase) -> TensorDictBase:
        """``loss_qvalue`` of a batch ``[...]``; writes ``td_error`` ``[...]`` into it."""
        raise NotImplementedError

    def judged(self, values: Tensor) -> Tensor:
        """What the actor is to raise, of the critics' values ``[critics, ...]``."""
        raise NotImplementedError

    def actor_losses(self: Any, data: TensorDictBase) -> TensorDictBase:
        """``loss_actor`` and ``loss_alpha``: equations 7 and 18 of Haarnoja et al. 2018b."""
        weights = self._maybe_get_priority_weight(data)
        action, log_prob = drawn(self.actor_network, data)
        with frozen(self.qvalue_network):
            value = self.judged(self.ask(data, action, self._detached_critics))
        alpha, excess = self._alpha, log_prob.detach() + self.target_entropy
        losses = {
            "loss_actor": self._reduce_loss(alpha * log_prob - value, weights=weights),
            "loss_alpha": self._reduce_loss(-self.log_alpha * excess, weights=weights),
            "alpha": alpha,
            "entropy": -log_prob.detach().mean(),
        }
        return tensordict_of(losses)

    def ask(self: Any, data: TensorDictBase, action: Tensor, critics: Any) -> Tensor:
        """The values ``[critics, ...]`` of doing ``action`` in the states of ``data`` ``[...]``."""
        asked = data.select(*self.qvalue_network.in_keys, strict=False)
        asked.set(self.tensor_keys.action, action)
        values = self._critics(asked, critics)
        return values.get(self.tensor_keys.state_action_value).squeeze(-1)

    def regress(self: Any, data: Any, values: Tensor, next_value: Tensor) -> TensorDictBase:
        """The loss of ``values`` ``[critics, ...]``, summed over critics, towards their target.

        The value estimator makes the target of ``next_value`` ``[...]``.
        """
        estimate = self.value_estimator.value_estimate
        target = estimate(data.copy(), next_value=next_value.unsqueeze(-1)).squeeze(-1)
        data.set(self.tensor_keys.priority, (values.detach() - target).abs().amax(0))
        each = distance_loss(values, target.expand_as(values), self.loss_function)
        weights = self._maybe_get_priority_weight(data)
        return tensordict_of({"loss_qvalue": self._reduce_loss(each.sum(0), weights=weights)})

    def _make_vmap(self: Any) -> None:
        self._critics = stacked_critics(self)

    @property
    def _alpha(self: Any) -> Tensor:
        """Within its bounds."""
        if self.min_log_alpha is not None or self.max_log_alpha is not None:
            self.log_alpha.data.clamp_(self.min_log_alpha, self.max_log_alpha)
        return self.log_alpha.detach().exp()

    @property
    @_cache_values  # until the parameters are moved to another device
    def _detached_critics(self: Any) -> TensorDictBase:
        return self.qvalue_network_params.detach()


def target_where_it_goes_on(loss: Any, data: Any, value_of: Callable[[Any], Tensor]) -> Tensor:
    """The value estimator's target ``[...]`` of a batch ``[...]``, of SAC's losses in TorchRL.

    ``value_of`` is asked of no state after a termination: of ``[n]`` others it returns ``[n]``.
    """
    data = data.clone(False)
    following = data["next"]
    going_on = ~following[loss.tensor_keys.terminated].squeeze(-1)
    next_value = torch.zeros_like(following[loss.tensor_keys.reward])
    with torch.no_grad():
        next_value[going_on] = value_of(following[going_on]).unsqueeze(-1)
        data.set(("next", loss.value_estimator.tensor_keys.value), next_value)
        return loss.value_estimator.value_estimate(data).squeeze(-1)


def drawn(actor: Any, data: TensorDictBase) -> tuple[Tensor, Tensor]:
    """Actions in the states of ``data`` ``[...]``, and their log-probabilities ``[...]``."""
    if isinstance(actor, TanhNormalActor):
        return actor.draw(data["observation"])
    return rsample_and_log_prob(actor.get_dist(data.select(*actor.in_keys)))

"""TorchRL's SAC loss with a look at each critic."""

from __future__ import annotations

from typing import Any

from tensordict import TensorDictBase
from torch import Tensor
from torchrl.envs.utils import set_exploration_type
from torchrl.objectives import SACLoss
from torchrl.objectives.utils import distance_loss

from trainers.losses.parts import drawn, target_where_it_goes_on


class CriticwiseSACLoss(SACLoss):
    """TorchRL's ``SACLoss`` that also returns every critic's own loss: ``qvalue_0``, ``qvalue_1``.

    Keywords, state, values and gradients are TorchRL's, but for two things. The ``td_error`` it
    writes is the size of the error in the first version of SAC too, where TorchRL's is its square.
    And ``skip_done_states`` asks for no action after a termination; TorchRL's asks for none after a
    truncation either, and takes the value of action 0 for what would have followed.
    """

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """TorchRL's losses, and each critic's, detached."""
        losses = super().forward(tensordict)
        put = losses.set_non_tensor if losses.batch_dims else losses.set
        for index, value in enumerate(self._each_critic):
            put(f"qvalue_{index}", value)
        return losses

    def qvalue_v2_loss(self, tensordict: TensorDictBase) -> tuple[Tensor, dict[str, Tensor]]:
        """All critics on the whole batch, against a target from their own targets."""
        weights = self._maybe_get_priority_weight(tensordict)
        target = self._compute_target_v2(tensordict)
        inputs = tensordict.select(*self.qvalue_network.in_keys, strict=False)
        values = self._values(self._vmap_qnetworkN0, inputs, self.qvalue_network_params)
        each = distance_loss(values, target.expand_as(values), self.loss_function)
        self._note([(loss, weights) for loss in each])
        loss = self._reduce_loss(each.sum(0), tensordict=tensordict, weights=weights)
        return loss, {"td_error": (values.detach() - target).abs().amax(0)}

    def _compute_target_v2(self, tensordict: TensorDictBase) -> Tensor:
        if not self.skip_done_states:
            return super()._compute_target_v2(tensordict)
        return target_where_it_goes_on(self, tensordict, self._next_value)

    def _next_value(self, states: TensorDictBase) -> Tensor:
        action, log_prob = drawn(self.actor_network, states)
        states.set(self.tensor_keys.action, action)
        targets = self.target_qvalue_network_params
        values = self._values(self._vmap_qnetworkN0, states, targets)
        return values.amin(0) - self._alpha * log_prob

    def qvalue_v1_loss(self, tensordict: TensorDictBase) -> tuple[Tensor, dict[str, Tensor]]:
        """Every critic on its own part of the batch, against a target from the state's value."""
        weights = self._maybe_get_priority_weight(tensordict)
        with set_exploration_type(self.deterministic_sampling_mode):
            target = self.value_estimator.value_estimate(
                tensordict, target_params=self._cached_target_params_actor_value
            ).squeeze(-1)
        parts = tensordict.reshape(self.num_qvalue_nets, -1, *tensordict.shape[1:])
        values = self._values(self._vmap_qnetwork00, parts, self.qvalue_network_params)
        values = values.reshape(tensordict.shape)
        all_of_them = distance_loss(values, target, self.loss_function)
        each = all_of_them.chunk(self.num_qvalue_nets)
        of_each = [None] * len(each) if weights is None else weights.chunk(len(each))
        self._note(list(zip(each, of_each, strict=True)))
        loss = self._reduce_loss(all_of_them, tensordict=tensordict, weights=weights)
        return loss, {"td_error": (values.detach() - target).abs()}

    def _values(self, critics: Any, inputs: TensorDictBase, parameters: Any) -> Tensor:
        outputs = critics(inputs, parameters)
        return outputs.get(self.tensor_keys.state_action_value).squeeze(-1)

    def _note(self, each: list[tuple[Tensor, Tensor | None]]) -> None:
        reduced = [self._reduce_loss(loss.detach(), weights=weights) for loss, weights in each]
        self._each_critic = [loss.mean() for loss in reduced]  # without a reduction, one for all

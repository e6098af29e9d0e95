"""TorchRL's loss of discrete SAC, faster for the shipped critics."""

from __future__ import annotations

from tensordict import TensorDictBase
from torch import Tensor
from torchrl.objectives import DiscreteSACLoss

from trainers.losses.critics import stacked_critics
from trainers.losses.parts import target_where_it_goes_on


class FastDiscreteSACLoss(DiscreteSACLoss):
    """TorchRL's ``DiscreteSACLoss``, keywords and all, but for how the critics are asked.

    And ``skip_done_states`` asks nothing after a termination; TorchRL's takes a truncation for one,
    and leaves out the value of what would have followed.
    """

    def _make_vmap(self) -> None:
        self._vmap_qnetworkN0 = stacked_critics(self)

    def _compute_target(self, tensordict: TensorDictBase) -> Tensor:
        if not self.skip_done_states:
            return super()._compute_target(tensordict)
        return target_where_it_goes_on(self, tensordict, self._next_value)

    def _next_value(self, states: TensorDictBase) -> Tensor:
        with self.actor_network_params.to_module(self.actor_network, preserve_module_state=False):
            policy = self.actor_network.get_dist(states)
        values = self._vmap_qnetworkN0(states, self.target_qvalue_network_params)
        lowest = values.get(self.tensor_keys.action_value).amin(0)
        return (policy.probs * (lowest - self._alpha * policy.logits)).sum(-1)

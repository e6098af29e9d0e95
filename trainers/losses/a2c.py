"""A2C's loss: of TorchRL's values and gradients, for small networks on the CPU much faster."""

from __future__ import annotations

from torchrl.objectives import A2CLoss

from trainers.losses.actor_critic import Entry, NumpyActorCritic, Objective
from trainers.losses.forward import plain_forward
from trainers.networks.numpy_nets import Array


@plain_forward
class FastA2CLoss(NumpyActorCritic, A2CLoss):
    """TorchRL's ``A2CLoss`` for the shipped networks; see :class:`NumpyActorCritic`."""

    def objective(self, log_prob: Array, advantage: Array, entry: Entry) -> Objective:
        """``log_prob * advantage``: the policy gradient (Mnih et al. 2016, section 4)."""
        return log_prob * advantage, advantage, {}

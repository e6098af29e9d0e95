"""REINFORCE's losses, with and without a baseline."""

from __future__ import annotations

from typing import Any

from tensordict import TensorDict, TensorDictBase
from torch import nn
from torchrl.objectives import ReinforceLoss


class BaselineReinforceLoss(ReinforceLoss):
    """TorchRL's ``ReinforceLoss``, whose critic's loss is called ``loss_critic`` as elsewhere.

    TorchRL's own writes the policy's distribution into the batch, which is left alone here.
    """

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """``loss_actor``, ``loss_critic`` and, with ``clip_value``, how often that clipped."""
        losses = super().forward(tensordict.copy())
        return losses.rename_key_("loss_value", "loss_critic")


class PolicyGradientLoss(nn.Module):
    """REINFORCE without a baseline: ``loss_actor`` is ``-log_prob * advantage``.

    TorchRL's ``ReinforceLoss`` cannot be made without a critic.

    Args:
        actor_network: writes ``action``; has ``get_dist``.
        reduction: over the frames of a batch, ``mean`` or ``sum``.
    """

    def __init__(self, actor_network: Any, reduction: str = "mean") -> None:
        super().__init__()
        self.actor_network = actor_network
        self.reduction = reduction

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """The loss of a batch ``[...]`` with ``action`` and ``advantage`` ``[..., 1]``."""
        actor = self.actor_network
        distribution = actor.get_dist(tensordict.select(*actor.in_keys, strict=False))
        log_prob = distribution.log_prob(tensordict["action"])
        loss = -log_prob.unsqueeze(-1) * tensordict["advantage"]
        return TensorDict({"loss_actor": loss.mean() if self.reduction == "mean" else loss.sum()})

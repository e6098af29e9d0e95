"""TorchRL's loss of discrete SAC, faster for the shipped critics."""

from __future__ import annotations

from torchrl.objectives import DiscreteSACLoss

from trainers.losses.critics import stacked_critics


class FastDiscreteSACLoss(DiscreteSACLoss):
    """TorchRL's ``DiscreteSACLoss``, keywords and all, but for how the critics are asked."""

    def _make_vmap(self) -> None:
        self._vmap_qnetworkN0 = stacked_critics(self)

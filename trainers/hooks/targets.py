"""Target networks follow their sources."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDictBase
from torchrl.objectives import HardUpdate, LossModule
from torchrl.objectives.utils import TargetNetUpdater

from trainers.trainer import Trainer


class TargetUpdate:
    """Moves all ``target_*`` networks of a loss; register it at ``post_optim``.

    Args:
        loss: a TorchRL loss with target networks.
        tau: weight of the source in the moving average, ``target += tau * (source - target)``
            (Lillicrap et al. 2016); 1 copies it, which is a hard update.
        interval: in updates; every ``interval``-th one moves the targets.

    Raises:
        ValueError: ``tau`` or ``interval`` is out of range, or the loss has no target networks.
    """

    def __init__(self, loss: LossModule, tau: float = 0.005, interval: int = 1) -> None:
        if not 0.0 < tau <= 1.0:
            raise ValueError(f"tau must be above 0 and at most 1, got {tau}")
        if interval < 1:
            raise ValueError(f"interval must be at least 1, got {interval}")
        self.tau = tau
        self.interval = interval
        self._targets: list[torch.Tensor] = []
        self._sources: list[torch.Tensor] = []
        self._counters: list[tuple[torch.Tensor, torch.Tensor]] = []
        names = [n for n, _ in loss.named_children() if n.startswith("target_")]
        if not names:
            raise ValueError(f"{type(loss).__name__} has no target networks to update")
        # TorchRL's updater tells the loss that its targets are taken care of (it warns otherwise);
        # its own step visits parameters one by one, which takes longer than the arithmetic.
        HardUpdate(loss)
        for name in names:
            sources = getattr(loss, name.removeprefix("target_"))
            for key, target in getattr(loss, name).items(True, True):
                source = sources.get(key)
                if target.is_floating_point():
                    self._targets.append(target.data)
                    self._sources.append(source.data)
                else:  # a batch norm's, for one: there is no average of whole numbers
                    self._counters.append((target.data, source.data))

    @property
    def capturable(self) -> bool:
        """Whether every update is the same."""
        return self.interval == 1

    def __call__(self, trainer: Trainer, batch: TensorDictBase, losses: TensorDictBase) -> None:
        if self.interval == 1 or trainer.updates % self.interval == 0:
            torch._foreach_lerp_(self._targets, self._sources, self.tau)  # type: ignore  # no stub
            for target, source in self._counters:
                target.copy_(source)


class StepUpdater:
    """Steps one of TorchRL's updaters (``SoftUpdate``, ``HardUpdate``) at ``post_optim``."""

    name = "target_update"

    def __init__(self, updater: TargetNetUpdater) -> None:
        self.updater = updater

    def __call__(self, trainer: Trainer, batch: TensorDictBase, losses: TensorDictBase) -> None:
        self.updater.step()

    def state_dict(self) -> dict[str, Any]:
        """The updater's own counter, where it has one."""
        return self.updater.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.updater.load_state_dict(state)

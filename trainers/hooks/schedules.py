"""What changes over a run: learning rates, coefficients of losses, how much is explored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tensordict import TensorDictBase
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from trainers.trainer import Trainer


def linear(progress: float) -> float:
    """The schedule that falls from 1 to 0 over the run's horizon."""
    return 1.0 - progress


class AnnealLR:
    """Sets every group's learning rate to its first value times ``schedule(progress)``.

    A pure function of the run's clock, taken before every update: nothing to save, nothing that
    could go out of step on a resume. Register it at ``process_optim_batch``.
    """

    def __init__(self, optimizer: Optimizer, schedule: Callable[[float], float] = linear) -> None:
        self.optimizer = optimizer
        self.schedule = schedule
        self._base = [group["lr"] for group in optimizer.param_groups]

    def __call__(self, trainer: Trainer, batch: TensorDictBase) -> None:
        factor = self.schedule(trainer.progress)
        for group, base in zip(self.optimizer.param_groups, self._base, strict=True):
            group["lr"] = base * factor


class AnnealBuffer:
    """Sets a loss's coefficient, a scalar buffer, to its first value times ``schedule(progress)``.

    A pure function of the run's clock, like :class:`AnnealLR`; register it at ``pre_epoch``.
    """

    def __init__(
        self, buffer: Tensor, base: float, schedule: Callable[[float], float] = linear
    ) -> None:
        self.buffer = buffer
        self.base = base
        self.schedule = schedule

    def __call__(self, trainer: Trainer, rollout: TensorDictBase) -> None:
        self.buffer.fill_(self.base * self.schedule(trainer.progress))


class StepLRScheduler:
    """Steps one of torch's learning-rate schedulers once an update, at ``post_optim``."""

    def __init__(self, scheduler: LRScheduler) -> None:
        self.scheduler = scheduler

    def __call__(self, trainer: Trainer, batch: TensorDictBase, losses: TensorDictBase) -> None:
        self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        """The scheduler's counters."""
        return self.scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.scheduler.load_state_dict(state)


class AnnealEpsilon:
    """Sets an explorer's ``epsilon``: in a line from ``start`` to ``end``, where it stays.

    A pure function of the run's clock: nothing to save. Register it at ``setup`` and, for the
    rollout that follows, at ``post_steps``, where it is logged as ``train/epsilon``.

    Args:
        explorer: whose ``epsilon`` is set.
        start: at frame 0.
        end: from the frame on at which ``fraction`` of the run's horizon has passed.
        fraction: above 0, at most 1.
    """

    name = "anneal_epsilon"

    def __init__(self, explorer: Any, start: float, end: float, fraction: float) -> None:
        self.explorer = explorer
        self.start, self.end = start, end
        self.fraction = fraction

    def __call__(self, trainer: Trainer, rollout: TensorDictBase | None = None) -> None:
        passed = min(1.0, trainer.frames / (self.fraction * trainer.total_frames))
        self.explorer.epsilon = self.start + (self.end - self.start) * passed
        if rollout is not None:
            trainer.metrics.set("train/epsilon", self.explorer.epsilon)

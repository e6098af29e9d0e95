"""Gradients and learning rates."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from tensordict import TensorDictBase
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from trainers.arrays import on_host
from trainers.optimization.optimizers import gradients_of
from trainers.phases import total_norm
from trainers.trainer import Trainer

_TINY = np.float32(1e-6)


class ClipGradNorm:
    """Scales the gradients so that their total norm is at most ``max_norm``.

    Register it at ``post_backward``, and :meth:`log`, which logs what the norm was before as
    ``train/grad_norm``, at ``post_optim``.

    Raises:
        ValueError: ``max_norm`` is not positive.
    """

    name = "clip_grad_norm"
    capturable = True

    def __init__(self, parameters: Iterable[Tensor], max_norm: float) -> None:
        if max_norm <= 0:
            raise ValueError(f"max_norm must be positive, got {max_norm}")
        self.parameters = list(parameters)
        self.max_norm = max_norm
        self._norm: Tensor | None = None

    def __call__(self, trainer: Trainer, batch: TensorDictBase, losses: TensorDictBase) -> None:
        gradients = gradients_of(self.parameters)
        norm = total_norm(gradients)
        if on_host(norm):  # the same in fewer operations, none if nothing is to be clipped
            self._norm = norm
            scale: Any = float(np.float32(self.max_norm) / (np.float32(norm.item()) + _TINY))
            if scale >= 1.0:
                return
        else:
            # In one place, whichever of several captured graphs is replayed.
            self._norm = norm if self._norm is None else self._norm.copy_(norm)
            scale = (self.max_norm / (norm + float(_TINY))).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(scale)

    def log(self, trainer: Trainer, batch: TensorDictBase, losses: TensorDictBase) -> None:
        """Note the last norm."""
        assert self._norm is not None, "register the clipping at post_backward"
        trainer.metrics.add_scalars({"train/grad_norm": self._norm})


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

"""Gradients: clipped, and their norms logged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from tensordict import TensorDictBase
from torch import Tensor

from trainers.arrays import on_host
from trainers.optimization.optimizers import gradients_of
from trainers.phases import total_norm
from trainers.trainer import Trainer

_TINY = np.float32(1e-6)


class ClipGradNorm:
    """Scales the gradients so that their total norm is at most ``max_norm``.

    Register it at ``post_backward``, and :meth:`log`, which logs what the norm was before as
    ``train/grad_norm``, or with ``of`` behind a slash, at ``post_optim``.

    Raises:
        ValueError: ``max_norm`` is not positive.
    """

    name = "clip_grad_norm"
    capturable = True

    def __init__(self, parameters: Iterable[Tensor], max_norm: float, of: str = "") -> None:
        if max_norm <= 0:
            raise ValueError(f"max_norm must be positive, got {max_norm}")
        self.parameters = list(parameters)
        self.max_norm = max_norm
        self.metric = grad_norm_of(of)
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
        trainer.metrics.add_scalars({self.metric: self._norm})


class LogGradNorm:
    """Logs the total norm of the gradients as they are when called; at ``post_optim``.

    It is called as in :class:`ClipGradNorm`, which knows it where gradients are clipped.
    """

    def __init__(self, parameters: Iterable[Tensor], of: str = "") -> None:
        self.parameters = list(parameters)
        self.metric = grad_norm_of(of)

    def __call__(self, trainer: Trainer, batch: TensorDictBase, losses: TensorDictBase) -> None:
        trainer.metrics.add_scalars({self.metric: total_norm(gradients_of(self.parameters))})


def grad_norm_of(phase: str) -> str:
    """What the norm of a phase's gradients is called; of the only one, which has no name."""
    return f"train/grad_norm/{phase}" if phase else "train/grad_norm"

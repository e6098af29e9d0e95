"""How much is explored, and when."""

from __future__ import annotations

from typing import Any

from tensordict import TensorDictBase

from trainers.trainer import Trainer


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

"""Ends of a run other than its last frame."""

from __future__ import annotations

from tensordict import TensorDictBase

from trainers.trainer import Trainer


class StopAfter:
    """Ends the run at the first iteration after ``seconds`` of wall clock since it was started.

    A resumed run has all of them again. Register :meth:`start` at ``setup`` and the object at
    ``post_steps``.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._started = 0.0

    def start(self, trainer: Trainer) -> None:
        """Count from here."""
        self._started = trainer.stopwatch.seconds

    def __call__(self, trainer: Trainer, rollout: TensorDictBase) -> None:
        if trainer.stopwatch.seconds - self._started >= self.seconds:
            trainer.stop(f"max_seconds={self.seconds:g}")

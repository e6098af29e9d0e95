"""Ends of a run other than its last frame."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from tensordict import TensorDictBase

from trainers.config import EarlyStopConfig
from trainers.hooks.logging import WriteMetrics
from trainers.trainer import Trainer

logger = logging.getLogger("trainers")


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


class EarlyStop:
    """Ends the run for good once a line of metrics meets a condition on one of its entries.

    Register the object at ``post_steps`` behind ``lines``, :meth:`resume` at ``setup`` and
    :meth:`close` at ``shutdown``. Lines without the entry do not count; a value that is not a
    number counts as no better than the ones before.

    Args:
        lines: the hook that writes them.
        config: the entry (``metric``, not None) and the condition.
    """

    name = "early_stop"

    def __init__(self, lines: WriteMetrics, config: EarlyStopConfig) -> None:
        self.config = config
        self._lines = lines
        self._seen: Mapping[str, float] = {}
        self._lower_is_better = config.at_most is not None
        self._value: float | None = None  # in the last line that has the entry; None if no number
        self._best = math.inf if self._lower_is_better else -math.inf
        self._lines_since_best = 0

    @property
    def reason(self) -> str | None:
        """Why the run is over; None if it is not."""
        metric, value = self.config.metric, self._value
        low, high, patience = self.config.at_least, self.config.at_most, self.config.patience
        if low is not None and value is not None and value >= low:
            return f"{metric}={value:g} is at least {low:g}"
        if high is not None and value is not None and value <= high:
            return f"{metric}={value:g} is at most {high:g}"
        if patience is not None and self._lines_since_best >= patience:
            return f"{metric} got no better than {self._best:g} in {self._lines_since_best} lines"
        return None

    def resume(self, trainer: Trainer) -> None:
        """End a run at once that was over when it was saved."""
        if self.reason is not None:
            trainer.stop(self.reason, complete=True)

    def __call__(self, trainer: Trainer, rollout: TensorDictBase) -> None:
        line = self._lines.last_line
        if line is self._seen or self.config.metric not in line:
            return
        self._seen = line
        value = line[self.config.metric]
        self._value = None if math.isnan(value) else value
        if value < self._best if self._lower_is_better else value > self._best:
            self._best, self._lines_since_best = value, 0
        else:
            self._lines_since_best += 1
        if self.reason is not None:
            trainer.stop(self.reason, complete=True)

    def close(self, trainer: Trainer) -> None:
        """Say so if the run never had the entry: a typing error would go unnoticed."""
        metric, line = self.config.metric, self._lines.last_line
        never = self._value is None and not self._seen
        if never and metric not in line and not trainer.interrupted:
            known = ", ".join(line)
            logger.warning("early_stop.metric: no line has %s, the last one has %s", metric, known)

    def state_dict(self) -> dict[str, Any]:
        """The last and the best value, and how many lines ago the best one was."""
        return {
            "metric": self.config.metric,
            "value": self._value,
            "best": self._best,
            "lines_since_best": self._lines_since_best,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`, if it is of the same entry."""
        if state["metric"] == self.config.metric:
            self._value, self._best = state["value"], state["best"]
            self._lines_since_best = state["lines_since_best"]

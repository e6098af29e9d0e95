"""Numbers on their way to the loggers, and the run's wall clock.

Hooks add values as often as they like; a value on a device stays there until the next line is
written, so that nothing in an update waits for the host.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainers.arrays import Array, as_array, as_tensor, on_host

STATISTICS = ("mean", "min", "max", "std")
_MOST_WAITING = 4_096  # values: memory stays flat however rare a line is


class _Window:
    """Running statistics of all values since the last line, in float64."""

    def __init__(self, statistics: tuple[str, ...]) -> None:
        self.statistics = statistics
        self.count = 0
        self.totals: dict[str, Tensor | float] = {}
        # On the host they wait, and many are summed up at once.
        self._waiting: list[Array] = []
        self._num_waiting = 0

    def add(self, value: Tensor | float) -> None:
        if isinstance(value, Tensor) and not value.numel():
            return  # a rollout that has been left without frames
        if isinstance(value, Tensor) and not on_host(value):
            self._sum_up(value.detach().double())
            return
        if isinstance(value, Tensor) and value.dtype is torch.bfloat16:  # unknown to numpy
            value = value.float()
        values = as_array(value) if isinstance(value, Tensor) else value
        self.wait(np.array(values, np.float64))  # a copy: the frames may still be changed

    def wait(self, values: Array) -> None:
        self._waiting.append(values.reshape(-1))
        self._num_waiting += values.size
        if self._num_waiting >= _MOST_WAITING:
            self._sum_up(self.waiting())
            self._waiting, self._num_waiting = [], 0

    def waiting(self) -> Array:
        return np.concatenate(self._waiting) if self._waiting else np.zeros(0)

    def _sum_up(self, values: Any) -> None:
        self.count += len(values.reshape(-1))
        parts = {"sum": values.sum()}
        if "min" in self.statistics:
            parts["min"] = values.min()
        if "max" in self.statistics:
            parts["max"] = values.max()
        if "std" in self.statistics:
            parts["squares"] = (values * values).sum()
        for key, part in parts.items():
            part = part if isinstance(part, Tensor) else float(part)
            self.totals[key] = _combine(key, self.totals[key], part) if key in self.totals else part

    def result(self, name: str) -> dict[str, float]:
        if self._waiting:
            self._sum_up(self.waiting())
        if not self.count:
            return {}
        mean = float(self.totals["sum"]) / self.count
        line = {}
        for statistic in self.statistics:
            if statistic == "mean":
                line[name] = mean
            elif statistic == "std":
                variance = float(self.totals["squares"]) / self.count - mean * mean
                line[f"{name}_std"] = max(0.0, variance) ** 0.5
            else:
                line[f"{name}_{statistic}"] = float(self.totals[statistic])
        return line


def _combine(key: str, total: Tensor | float, part: Tensor | float) -> Tensor | float:
    if key in ("sum", "squares"):
        return total + part
    if isinstance(total, Tensor) and isinstance(part, Tensor):
        return torch.minimum(total, part) if key == "min" else torch.maximum(total, part)
    # Not Python's own: what is not a number must not get lost.
    return float((np.minimum if key == "min" else np.maximum)(float(total), float(part)))


class _Vector:
    """Running mean of a fixed set of scalars: one stack and one addition for all of them."""

    def __init__(self) -> None:
        self.count = 0
        self.total: Any = None  # an array, or a tensor on another device

    def add(self, values: Sequence[Tensor]) -> None:
        if all(map(on_host, values)):  # there is nothing to wait for
            numbers: Any = np.array([value.item() for value in values])
        else:
            flat = [value if value.ndim == 0 else value.reshape(()) for value in values]
            numbers = torch.stack(flat).detach().double()
        if self.total is not None:
            if isinstance(numbers, Tensor):
                self.total = torch.as_tensor(self.total, device=numbers.device)
            numbers = self.total + numbers
        self.total = numbers
        self.count += 1


class Metrics:
    """Collects values between two log lines.

    ``train/reward`` with the statistics ``("mean", "std")`` becomes the entries ``train/reward``
    and ``train/reward_std``.
    """

    def __init__(self) -> None:
        self.line_due = False
        """Something was added that belongs to this very frame (an evaluation)."""
        self._windows: dict[str, _Window] = {}
        self._vectors: dict[tuple[str, ...], _Vector] = {}
        self._latest: dict[str, Tensor | float] = {}

    def add(self, name: str, value: Tensor | float, statistics: Sequence[str] = ("mean",)) -> None:
        """Add a number, or all elements of a tensor, to the statistics of ``name``."""
        if name not in self._windows:
            self._windows[name] = _Window(tuple(statistics))
        self._windows[name].add(value)

    def add_scalars(self, scalars: Mapping[str, Tensor]) -> None:
        """Add one value to the mean of each name; cheaper than :meth:`add` for tensors."""
        if scalars:
            self._vectors.setdefault(tuple(scalars), _Vector()).add(list(scalars.values()))

    def set(self, name: str, value: Tensor | float) -> None:
        """The latest value wins: learning rates, evaluation results."""
        # A copy: it may still be changed, and asking for its number may have to wait.
        tensor = isinstance(value, Tensor)
        self._latest[name] = value.detach().clone() if tensor else float(value)

    def flush(self) -> dict[str, float]:
        """The entries of a line; the windows start anew."""
        line: dict[str, float] = {}
        sums: dict[str, list[float]] = {}
        for names, vector in self._vectors.items():
            assert vector.total is not None
            for name, total in zip(names, vector.total.tolist(), strict=True):
                entry = sums.setdefault(name, [0.0, 0])
                entry[0] += total
                entry[1] += vector.count
        line.update({name: total / count for name, (total, count) in sums.items()})
        for name, window in self._windows.items():
            line.update(window.result(name))
        line.update({name: float(value) for name, value in self._latest.items()})
        self.__init__()
        return line

    def state_dict(self) -> dict[str, Any]:
        """The open windows, so that a resumed run writes the same next line."""
        return {
            "line_due": self.line_due,
            "latest": dict(self._latest),
            "windows": {
                name: {
                    "statistics": list(window.statistics),
                    "count": window.count,
                    "totals": dict(window.totals),
                    "waiting": as_tensor(window.waiting()),
                }
                for name, window in self._windows.items()
            },
            "vectors": [
                {"names": list(names), "count": vector.count, "total": as_tensor(vector.total)}
                for names, vector in self._vectors.items()
            ],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.__init__()
        self.line_due = state["line_due"]
        self._latest = dict(state["latest"])
        for name, stored in state["windows"].items():
            window = self._windows[name] = _Window(tuple(stored["statistics"]))
            window.count, window.totals = stored["count"], dict(stored["totals"])
            window.wait(as_array(as_tensor(stored["waiting"])))
        for stored in state["vectors"]:
            vector = self._vectors[tuple(stored["names"])] = _Vector()
            vector.count, vector.total = stored["count"], as_array(as_tensor(stored["total"]))


class Stopwatch:
    """Wall clock of a run, summed over its resumes.

    ``seconds`` counts everything while the run is running; ``training_seconds`` leaves out what
    happens inside :meth:`paused` (evaluation, checkpoints).
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._paused_seconds = 0.0
        self._started: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds since the run began, over all resumes."""
        running = 0.0 if self._started is None else time.perf_counter() - self._started
        return self._seconds + running

    @property
    def training_seconds(self) -> float:
        """``seconds`` without what was paused."""
        return self.seconds - self._paused_seconds

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the seconds inside."""
        self._started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds = self.seconds
            self._started = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the seconds inside out of ``training_seconds``."""
        begin = self.seconds
        try:
            yield
        finally:
            self._paused_seconds += self.seconds - begin

    def state_dict(self) -> dict[str, float]:
        """Seconds so far."""
        return {"seconds": self.seconds, "paused_seconds": self._paused_seconds}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restore :meth:`state_dict`."""
        if self._started is not None:
            self._started = time.perf_counter()
        self._seconds = state["seconds"]
        self._paused_seconds = state["paused_seconds"]

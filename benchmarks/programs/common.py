"""What the programs of the benchmark share: settings come in, marks go out, by JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


def read_settings() -> SimpleNamespace:
    """What `scripts/benchmark.py` put on the command line."""
    return SimpleNamespace(**json.loads(sys.argv[1]))


class Marks:
    """Frames, updates and wall clock, taken inside a training loop every `mark_every` frames.

    With `until` the policy is evaluated at every mark, while the clock stands still.
    """

    def __init__(self, settings: SimpleNamespace) -> None:
        self._settings = settings
        self._every, self._until = settings.mark_every, settings.until
        self._due = self._every
        self._paused = 0.0
        self.marks: list[dict[str, float]] = [
            {"frames": 0, "updates": 0, "seconds": time.perf_counter()}
        ]

    def __call__(
        self, frames: int, updates: Callable[[], int], act: Callable[[Any], Any] | None = None
    ) -> bool:
        """Take a mark if one is due; true once an evaluation has reached `until`.

        `updates` is asked for only then, since it may have to wait for the device; `act` is the
        deterministic policy, from an observation to an action.
        """
        if frames < self._due:
            return False
        self._due = frames + self._every
        mark = {"frames": frames, "updates": updates()}  # first: the clock waits for the updates
        mark["seconds"] = time.perf_counter() - self._paused
        self.marks.append(mark)
        if self._until is None or act is None:
            return False
        started = time.perf_counter()
        mark["return"] = evaluate(act, self._settings.env_id)
        self.print()  # it may be cut off before the next one
        self._paused += time.perf_counter() - started
        return mark["return"] >= self._until

    def print(self) -> None:
        """A line on stdout: `scripts/benchmark.py` reads the last one."""
        print(json.dumps(self.marks), flush=True)


def per_second(work: Callable[[], object], seconds: float) -> float:
    """How often ``work`` is done in a second, measured over about ``seconds``."""
    work()
    count, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        work()
        count += 1
    return count / elapsed


def evaluate(
    act: Callable[[Any], Any], env_id: str, episodes: int = 10, seed: int = 10_000
) -> float:
    """Mean return over episodes that begin the same for everyone."""
    import gymnasium

    env = gymnasium.make(env_id)
    total = 0.0
    for episode in range(episodes):
        observation, _ = env.reset(seed=seed + episode)
        done = False
        while not done:
            observation, reward, terminated, truncated, _ = env.step(act(observation))
            total += float(reward)
            done = terminated or truncated
    env.close()
    return total / episodes

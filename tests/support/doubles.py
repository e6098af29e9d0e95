"""Stand-ins: a collector, a loss, a trainer and a logger that do the least there is to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import nn

from trainers.metrics import Metrics, Stopwatch
from trainers.trainer import Trainer


class Rollouts:
    """A collector of made-up rollouts ``[num_envs, steps]``; observations number the frames."""

    def __init__(self, num_envs: int = 1, steps: int = 1, end: int | None = None) -> None:
        self.batch_size = [num_envs, steps]
        self.end = end
        self.rollouts = 0
        self.closed = False

    def __iter__(self) -> Iterator[TensorDictBase]:
        while self.end is None or self.rollouts < self.end:
            yield self.rollout()

    def rollout(self) -> TensorDict:
        frames = self.batch_size[0] * self.batch_size[1]
        first = self.rollouts * frames
        self.rollouts += 1
        observation = torch.arange(first, first + frames).float().reshape(*self.batch_size, 1)
        false = torch.zeros(*self.batch_size, 1, dtype=torch.bool)
        following = {
            "observation": observation + 1,
            "reward": observation,
            "done": false,
            "terminated": false.clone(),
        }
        return TensorDict(
            {"observation": observation, "next": TensorDict(following, self.batch_size)},
            self.batch_size,
        )

    def state_dict(self) -> dict[str, int]:
        return {"rollouts": self.rollouts}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.rollouts = state["rollouts"]

    def shutdown(self) -> None:
        self.closed = True


class Constant(nn.Module):
    """A loss with one parameter, which learns the mean of the rewards."""

    def __init__(self) -> None:
        super().__init__()
        self.guess = nn.Parameter(torch.zeros(1))

    def forward(self, batch: TensorDictBase) -> TensorDict:
        error = batch["next", "reward"] - self.guess
        return TensorDict({"loss_fit": error.square().mean(), "guess": self.guess.mean()})


def make_trainer(
    loss: Any = None, collector: Any = None, total_frames: int = 10, lr: float = 0.1, **given: Any
) -> Trainer:
    """A trainer of `Constant` on `Rollouts`, unless told otherwise."""
    loss = Constant() if loss is None else loss
    return Trainer(
        collector=Rollouts() if collector is None else collector,
        loss_module=loss,
        optimizer=torch.optim.SGD(loss.parameters(), lr=lr),
        total_frames=total_frames,
        **given,
    )


class StubTrainer:
    """What a hook may look at, without a loop."""

    def __init__(self, frames: int = 0, updates: int = 0, total_frames: int = 100) -> None:
        self.frames = frames
        self.updates = updates
        self.total_frames = total_frames
        self.stop_at: int | None = None
        self.iteration_start = 0
        self.interrupted = False
        self.stop_reason: str | None = None
        self.goal_reached = False
        self.collector = SimpleNamespace(restored=("exact", ""))
        self.metrics = Metrics()
        self.stopwatch = Stopwatch()
        self.phases: list[Any] = []
        self.saved: list[Path] = []

    @property
    def clock(self) -> int:
        return self.frames

    @property
    def end(self) -> int:
        return min(self.total_frames, self.stop_at or self.total_frames)

    @property
    def progress(self) -> float:
        return self.frames / self.total_frames

    @property
    def complete(self) -> bool:
        return self.goal_reached or self.frames >= self.total_frames

    def stop(self, reason: str, interrupted: bool = False, complete: bool = False) -> None:
        self.stop_reason = self.stop_reason or reason
        self.interrupted |= interrupted
        self.goal_reached |= complete

    def advance(self, frames: int = 1, updates: int = 0) -> None:
        """An iteration later."""
        self.iteration_start = self.frames
        self.frames += frames
        self.updates += updates

    def save(self, path: Path, previous: Path | None = None) -> None:
        path.mkdir(parents=True)
        self.saved.append(path)


def stub(**given: int) -> Any:
    """A `StubTrainer`; typed as anything, so that hooks take it."""
    return StubTrainer(**given)


class Lines:
    """A logger that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[dict[str, float]] = []
        self.closed = 0

    def write(self, line: Any) -> None:
        self.lines.append(dict(line))

    def close(self) -> None:
        self.closed += 1

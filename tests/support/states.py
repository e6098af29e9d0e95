"""What trainers hold, and whether two of them hold the same."""

from __future__ import annotations

import copy
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from support.doubles import Lines
from trainers.build import build
from trainers.config import TrainConfig
from trainers.hooks import LogEpisodes, LogLearningRates, LogLosses, LogScalar, WriteMetrics
from trainers.saving.segments import Rows
from trainers.stages import Stage
from trainers.trainer import Trainer


def flat(state: Any, path: str = "") -> dict[str, Any]:
    """The leaves of a nested state by their paths."""
    if isinstance(state, Rows):
        state = {"first": state.first, "end": state.end, **state.tables()}
    if isinstance(state, dict):
        items: Any = state.items()
    elif isinstance(state, (list, tuple)):
        items = enumerate(state)
    else:
        return {path: state}
    leaves: dict[str, Any] = {}
    for key, value in items:
        leaves |= flat(value, f"{path}/{key}")
    return leaves


def assert_same(left: Any, right: Any, ignoring: tuple[str, ...] = ()) -> None:
    """Both states are equal, bit for bit, tensors and arrays with their type."""
    one, two = flat(left), flat(right)
    assert one.keys() == two.keys()
    for path, value in one.items():
        if any(part in path for part in ignoring):
            continue
        other = two[path]
        if isinstance(value, (Tensor, np.ndarray)):
            value, other = torch.as_tensor(value), torch.as_tensor(other)
            assert value.dtype == other.dtype, path
            assert value.shape == other.shape, path
            assert torch.equal(value, other), path
        else:
            assert value == other, path


def loss_of(trainer: Trainer) -> Any:
    """The loss module of a trainer's phase, or of all of them."""
    return cast(Any, trainer.phases[0].loss)


def owner(trainer: Trainer, kind: type) -> Any:
    """The trainer's hook of this kind; None if there is none."""
    owners = [owner for owner in trainer.timetable._owners.values() if isinstance(owner, kind)]
    return owners[0] if owners else None


def watched(config: TrainConfig) -> tuple[Trainer, Lines]:
    """A trainer that writes its lines, and they."""
    trainer, lines = build(config).trainer, Lines()
    trainer.register_hook(Stage.POST_COLLECT, LogEpisodes())
    trainer.register_hook(Stage.POST_COLLECT, LogScalar(("next", "reward"), "train/reward"))
    trainer.register_hook(Stage.POST_OPTIM, LogLosses())
    trainer.register_hook(Stage.POST_STEPS, LogLearningRates())
    writer = WriteMetrics([lines], interval=7)
    trainer.register_hook(Stage.POST_STEPS, writer)
    trainer.register_hook(Stage.SHUTDOWN, writer.finish)
    return trainer, lines


def timeless(lines: list[dict[str, float]]) -> list[dict[str, float]]:
    """Lines without what the wall clock had a part in."""
    return [
        {k: v for k, v in line.items() if k != "seconds" and not k.startswith("time/")}
        for line in lines
    ]


def parameters(module: nn.Module) -> list[Tensor]:
    """Copies."""
    return [parameter.detach().clone() for parameter in module.parameters()]


def rollouts_of(trainer: Trainer, stage: str = "post_collect") -> list[Any]:
    """Filled with copies of the rollouts, as they are at ``stage``."""
    seen: list[Any] = []
    trainer.register_hook(stage, lambda t, rollout: seen.append(rollout.clone()), name="copies")
    return seen


def learnt(trainer: Trainer) -> dict[str, Any]:
    """A copy of all that a step could have moved."""
    states = flat(
        {
            "phases": [phase.state_dict() for phase in trainer.phases],
            "hooks": trainer.timetable.state_dict(),
        }
    )
    return {path: copied(value) for path, value in states.items()}


def copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else copy.deepcopy(value)

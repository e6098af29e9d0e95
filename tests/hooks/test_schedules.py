"""Learning rates and epsilon are functions of the clock."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.doubles import stub
from tensordict import TensorDict
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, StepLR

from trainers.hooks import AnnealEpsilon, AnnealLR, StepLRScheduler
from trainers.saving import checkpoint


@pytest.mark.parametrize(
    ("frames", "expected"),
    [(0, 1.0), (10, 0.775), (20, 0.55), (40, 0.1), (41, 0.1), (100, 0.1), (120, 0.1)],
)
def test_it_falls_in_a_line_and_stays(frames: int, expected: float) -> None:
    explorer = SimpleNamespace(epsilon=0.0)
    anneal = AnnealEpsilon(explorer, start=1.0, end=0.1, fraction=0.4)
    trainer = stub(frames=frames, total_frames=100)
    anneal(trainer)  # at setup, after a resume for one
    assert explorer.epsilon == pytest.approx(expected)
    assert trainer.metrics.flush() == {}
    explorer.epsilon = 0.0
    anneal(trainer, TensorDict())
    assert explorer.epsilon == pytest.approx(expected)
    assert trainer.metrics.flush() == {"train/epsilon": pytest.approx(expected)}


def test_there_is_nothing_to_save() -> None:
    anneal: Any = AnnealEpsilon(SimpleNamespace(epsilon=0.0), 1.0, 0.1, 0.4)
    assert not hasattr(anneal, "state_dict")


def two_groups() -> SGD:
    """An optimizer with the learning rates 1 and 0.1."""
    return SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1.0, 0.1)])


def rates(optimizer: SGD) -> list[float]:
    """The learning rate of every group."""
    return [group["lr"] for group in optimizer.param_groups]


def test_learning_rates_are_a_function_of_the_clock() -> None:
    optimizer = two_groups()
    hook = AnnealLR(optimizer)
    for frames, factor in [(0, 1.0), (25, 0.75), (100, 0.0), (50, 0.5)]:
        hook(stub(frames=frames), TensorDict())
        assert rates(optimizer) == pytest.approx([factor, 0.1 * factor])


def test_the_schedule_may_be_any() -> None:
    optimizer = two_groups()
    AnnealLR(optimizer, schedule=lambda progress: 0.1**progress)(stub(frames=100), TensorDict())
    assert rates(optimizer) == pytest.approx([0.1, 0.01])


def test_a_resumed_schedule_starts_from_the_first_rate() -> None:
    annealed = two_groups()
    AnnealLR(annealed)(stub(frames=50), TensorDict())
    fresh = two_groups()
    hook = AnnealLR(fresh)
    fresh.load_state_dict(annealed.state_dict())
    hook(stub(frames=75), TensorDict())
    assert rates(fresh) == pytest.approx([0.25, 0.025])


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize("make", [lambda o: StepLR(o, 2), lambda o: CosineAnnealingLR(o, T_max=9)])
def test_a_scheduler_of_torch_steps_and_resumes(make: Any, tmp_path: Any) -> None:
    optimizer, other = two_groups(), two_groups()
    hook, resumed = StepLRScheduler(make(optimizer)), StepLRScheduler(make(other))
    for _ in range(3):
        hook(stub(), TensorDict(), TensorDict())
    assert rates(optimizer) != [1.0, 0.1]
    state = {"hook": hook.state_dict(), "optimizer": optimizer.state_dict()}
    checkpoint.save(tmp_path / "c", state)
    state = checkpoint.load(tmp_path / "c")
    resumed.load_state_dict(state["hook"])
    other.load_state_dict(state["optimizer"])
    for _ in range(4):
        for each in (hook, resumed):
            each(stub(), TensorDict(), TensorDict())
        assert rates(other) == rates(optimizer)

"""Gradients and learning rates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.doubles import stub
from tensordict import TensorDict
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, StepLR

from trainers.hooks import AnnealLR, ClipGradNorm, StepLRScheduler
from trainers.saving import checkpoint


def with_gradient(*values: float) -> nn.Parameter:
    """A parameter whose gradient is this."""
    parameter = nn.Parameter(torch.zeros(len(values)))
    parameter.grad = torch.tensor(values)
    return parameter


@pytest.mark.parametrize(
    ("max_norm", "expected"), [(1.0, [0.6, 0.0, 0.8]), (10.0, [3.0, 0.0, 4.0])]
)
def test_gradients_are_scaled_together(max_norm: float, expected: list[float]) -> None:
    one, two, unused = with_gradient(3.0, 0.0), with_gradient(4.0), nn.Parameter(torch.zeros(1))
    # Once for every update: a generator would be used up by the first.
    hook = ClipGradNorm((p for p in (one, two, unused)), max_norm)
    for _ in range(2):
        one.grad, two.grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
        hook(stub(), TensorDict(), TensorDict())
        assert one.grad.tolist() + two.grad.tolist() == pytest.approx(expected, rel=1e-5)
    assert unused.grad is None


def test_the_norm_before_clipping_is_logged() -> None:
    trainer = stub()
    hook = ClipGradNorm([with_gradient(3.0), with_gradient(4.0)], max_norm=1.0)
    hook(trainer, TensorDict(), TensorDict())
    hook.log(trainer, TensorDict(), TensorDict())
    assert trainer.metrics.flush() == {"train/grad_norm": pytest.approx(5.0)}


@pytest.mark.parametrize("max_norm", [0.0, -1.0])
def test_a_norm_below_zero_is_refused(max_norm: float) -> None:
    with pytest.raises(ValueError, match="max_norm"):
        ClipGradNorm([], max_norm)


def two_groups() -> SGD:
    """An optimizer with the learning rates 1 and 0.1."""
    return SGD([{"params": [with_gradient(0.0)], "lr": lr} for lr in (1.0, 0.1)])


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

"""Gradients: clipped, and their norms logged."""

from __future__ import annotations

import pytest
import torch
from support.doubles import stub
from tensordict import TensorDict
from torch import nn

from trainers.hooks import ClipGradNorm, LogGradNorm


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


def test_the_norm_of_all_gradients() -> None:
    one, two = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
    unused = nn.Parameter(torch.zeros(1))
    one.grad, two.grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    trainer, hook = stub(), LogGradNorm(iter([one, two, unused]))
    hook(trainer, TensorDict(), TensorDict())
    one.grad = torch.tensor([0.0, 0.0])
    hook(trainer, TensorDict(), TensorDict())
    assert trainer.metrics.flush() == {"train/grad_norm": 4.5}

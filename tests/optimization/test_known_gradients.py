"""Losses that know their gradients: in a phase, and as part of anybody's graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn
from torch.optim import SGD

from trainers.optimization.known_gradients import known_gradients, with_known_gradients
from trainers.optimization.optimizers import FlatAdam
from trainers.phases import Phase


class Known(nn.Module):
    """``loss_a`` is a^2, ``loss_b`` is b^3, with or without autograd's help."""

    def __init__(self, known: bool = True) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(3.0))
        self.other = nn.Parameter(torch.tensor(4.0))
        self.known = known
        self.calls = 0

    def forward(self, batch: TensorDictBase) -> TensorDict:
        a, b = self.a, self.b
        if not self.known:
            return TensorDict({"loss_a": a**2, "loss_b": b**3})
        with torch.no_grad():
            values = (a**2, b**3)
        losses = with_known_gradients(values, self._differentiate, [a, b])
        return TensorDict(dict(zip(("loss_a", "loss_b"), losses, strict=True)))

    def _differentiate(self, weights: Sequence[Tensor | float]) -> list[Tensor]:
        self.calls += 1
        with torch.no_grad():
            return [weights[0] * 2 * self.a, weights[1] * 3 * self.b**2]


def gradients(loss: nn.Module) -> list[float | None]:
    return [None if p.grad is None else p.grad.item() for p in loss.parameters()]


def backward(loss: Known, change: Any = None) -> float:
    phase = Phase(loss, SGD(loss.parameters(), lr=0.1))
    losses = loss(TensorDict())
    if change is not None:
        losses = change(losses)
    return phase.backward(losses).item()


CHANGES: dict[str, Any] = {
    "none": None,
    "a term less": lambda losses: losses.exclude("loss_a"),
    "a factor": lambda losses: losses.set("loss_a", -2.0 * losses["loss_a"]),
    "in place": lambda losses: losses.set("loss_b", losses["loss_b"].mul_(0.5)),
    "one more": lambda losses: losses.set("loss_c", losses["loss_a"] * losses["loss_b"]),
    "twice": lambda losses: losses.set("loss_c", losses["loss_a"]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_phase_s_gradients_are_autograd_s(change: Any) -> None:
    ours, theirs = Known(), Known(known=False)
    for _ in range(2):  # fresh ones every time
        assert backward(ours, change) == backward(theirs, change)
        expected = [grad or 0.0 for grad in gradients(theirs)]
        assert [grad or 0.0 for grad in gradients(ours)] == expected
    assert ours.calls == 2


def test_autograd_s_engine_is_left_out_where_nothing_was_changed() -> None:
    loss = Known()
    losses = loss(TensorDict())
    known = known_gradients(list(losses.values()))
    assert known is not None
    leaves, gradients = known
    assert [id(leaf) for leaf in leaves] == [id(loss.a), id(loss.b)]
    assert [gradient.item() for gradient in gradients()] == [4.0, 27.0]
    with pytest.raises(RuntimeError, match="evaluate them again"):
        losses["loss_a"].backward()
    scaled = loss(TensorDict())
    scaled["loss_a"].mul_(2.0)
    assert known_gradients(list(scaled.values())) is None
    assert known_gradients([loss.a * 2.0]) is None
    assert known_gradients([torch.ones(())]) is None


@pytest.mark.parametrize("kind", ["before", "after"])
def test_hooks_of_a_parameter_are_called(kind: str) -> None:
    loss = Known()
    seen: list[float] = []
    if kind == "before":
        loss.a.register_hook(lambda grad: seen.append(grad.item()))
    else:
        loss.a.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.item()))
    backward(loss)
    assert seen == [4.0]


def test_what_others_have_left_in_a_gradient_is_gone() -> None:
    loss = Known()
    loss.other.grad, loss.a.grad = torch.tensor(7.0), torch.tensor(7.0)
    backward(loss)
    assert gradients(loss) == [4.0, 27.0, None]


def test_a_flat_optimizer_finds_them_after_a_module_has_dropped_its_own() -> None:
    loss = Known()
    groups = [{"params": [p], "name": n, "lr": 0.1} for n, p in loss.named_parameters()]
    phase = Phase(loss, FlatAdam(groups))
    for _ in range(2):
        loss.zero_grad()
        phase.backward(loss(TensorDict()))
        expected = [2 * loss.a.item(), 3 * loss.b.item() ** 2, 0.0]
        assert gradients(loss) == pytest.approx(expected)
        before = [p.item() for p in loss.parameters()]
        phase.step()
        moved = [p.item() != old for p, old in zip(loss.parameters(), before, strict=True)]
        assert moved == [True, True, False]

"""Epsilon is a function of the clock."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from support.doubles import stub
from tensordict import TensorDict

from trainers.hooks import AnnealEpsilon


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

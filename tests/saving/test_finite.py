"""What is not finite does not get into a checkpoint, and is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.doubles import make_trainer
from torch import Tensor, nn

from trainers.errors import NonFiniteError
from trainers.saving import checkpoint
from trainers.saving.finite import refuse_non_finite
from trainers.saving.segments import SEGMENT_ROWS, Rows

NAN, INF = float("nan"), float("inf")


class Remembers:
    """A hook with a state."""

    name = "mine"

    def __init__(self, state: Any) -> None:
        self.state = state

    def __call__(self, trainer: Any, rollout: Any) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state["seen"]


def state() -> dict[str, Any]:
    """Of a trainer, as far as it is looked at."""
    return {
        "phases": [{"optimizers": [{"state": {0: {"moment": torch.ones(3)}}}], "loss": {}}],
        "rollout": None,
        "collector": {"observation": np.zeros(2), "open_episodes": [{"seed": 1, "state": {}}]},
        "hooks": {},
        "metrics": {"latest": {}},
    }


def changed(path: str, value: Any) -> dict[str, Any]:
    """`state`, with ``value`` at ``path``."""
    made = state()
    place: Any = made
    *way, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    for part in way:
        place = place.setdefault(part, {}) if isinstance(place, dict) else place[part]
    place[last] = value
    return made


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("phases/0/loss/target_net", torch.tensor([1.0, NAN]), "networks: phases/0/loss/target_n"),
        ("phases/0/loss/norm.mean", torch.tensor([1.0, -INF]), "networks: .* is -inf"),
        ("phases/0/loss/log_alpha", torch.tensor(NAN), "networks: .*log_alpha is nan"),
        ("phases/0/optimizers/0/state/0/moment", torch.tensor([1.0, INF]), "optimizers: .* is inf"),
        ("hooks/scale/statistics/var", torch.tensor(NAN, dtype=torch.float64), "hook scale: "),
        ("hooks/mine/seen", NAN, "hook mine: hooks/mine/seen is nan"),
        ("hooks/mine/seen", [1.0, np.float32(NAN)], "hook mine: hooks/mine/seen/1 is nan"),
        ("hooks/mine/seen", np.array([1.0, NAN]), "hook mine"),
        ("collector/exploration", np.array([NAN, 1.0]), "environments: collector/exploration"),
        ("rollout", {"data": {"reward": torch.tensor([1.0, INF])}}, "rollout: .*reward is inf"),
    ],
)
def test_a_component_is_named(path: str, value: Any, named: str, tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match=named) as caught:
        checkpoint.save(tmp_path / "c", changed(path, value), check=refuse_non_finite)
    assert not list(tmp_path.iterdir())
    assert "value" in caught.value.evidence


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("phases/0/loss/max_log_alpha", torch.tensor(INF)),  # no bound
        ("phases/0/loss/large", torch.full((4,), 3e38)),  # their sum is infinite
        ("phases/0/loss/flags", torch.tensor([True, False])),
        ("hooks/evaluation/best_return", -INF),
        ("hooks/mine/best", torch.full((4,), -INF)),
        ("collector/open_episodes/0/state/told", np.array([NAN])),
        ("metrics/latest/loss/kl", NAN),
    ],
)
def test_what_may_be_saved(path: str, value: Any, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "c", changed(path, value), check=refuse_non_finite)
    checkpoint.load(tmp_path / "c")


def test_a_state_that_holds_anything_can_be_saved_as_well(tmp_path: Path) -> None:
    """What was not finite is kept for study."""
    checkpoint.save(tmp_path / "c", {"phases": torch.tensor([NAN])})
    assert checkpoint.load(tmp_path / "c")["phases"].isnan().all()


def test_frames_are_looked_at_when_they_are_new(tmp_path: Path) -> None:
    table = torch.zeros(2 * SEGMENT_ROWS)
    looked: list[str] = []

    def rows(end: int) -> dict[str, Any]:
        def read(begin: int, end: int) -> dict[str, Tensor]:
            return {"action_log_prob": table[begin:end]}

        return {"hooks": {"replay": {"frames": Rows(0, end, read)}}}

    def look(path: str, value: Any) -> None:
        looked.append(path)
        refuse_non_finite(path, value)

    checkpoint.save(tmp_path / "1", rows(SEGMENT_ROWS), check=look)
    checkpoint.save(tmp_path / "2", rows(SEGMENT_ROWS + 1), tmp_path / "1", check=look)
    assert looked == ["/hooks/replay/frames/action_log_prob"] * 2
    table[-1] = NAN
    with pytest.raises(NonFiniteError, match=r"hook replay: .*action_log_prob is nan"):
        checkpoint.save(tmp_path / "3", rows(len(table)), tmp_path / "2", check=look)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


@pytest.mark.parametrize("value", [NAN, torch.tensor([NAN])])
def test_a_hook_of_a_user_s_cannot_poison_a_run(value: Any, tmp_path: Path) -> None:
    trainer = make_trainer(total_frames=3)
    trainer.register_hook("post_steps", Remembers(value))
    with pytest.raises(NonFiniteError, match="hook mine: hooks/mine/seen is nan: it was not sav"):
        trainer.save(tmp_path / "c")


def test_targets_and_moments_are_looked_at(tmp_path: Path) -> None:
    trainer = make_trainer(total_frames=3)
    loss: Any = trainer.phases[0].loss
    loss.target_guess = nn.Buffer(torch.tensor([1.0, NAN]))
    with pytest.raises(NonFiniteError, match="networks: phases/0/loss/target_guess is nan"):
        trainer.save(tmp_path / "c")

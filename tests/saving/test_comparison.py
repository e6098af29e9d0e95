"""Whether two runs are the same, and what differs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from trainers.saving import checkpoint
from trainers.saving.comparison import differences
from trainers.saving.segments import Rows


def state(**changes: Any) -> dict[str, Any]:
    return {
        "clock": {"frames": 10},
        "phases": [{"loss": {"weight": torch.ones(3)}, "optimizers": [{"lr": 0.1}]}],
        "collector": {"steps": [3], "observation": torch.tensor([1.0, math.nan])},
        "hooks": {"replay": {"frames": table(2.0)}, "metrics": {"logs": {"bytes": 3}}},
        "metrics": {"latest": {"a": math.nan, "b": math.inf}},
        "stopwatch": {"seconds": 12.0},
        "random": {"torch": torch.arange(4)},
    } | changes


def table(last: float) -> Rows:
    values = torch.tensor([0.0, 1.0, last])
    return Rows(4, 7, lambda begin, end: {"x": values[begin - 4 : end - 4]})


def run(path: Path, given: dict[str, Any], *lines: dict[str, Any]) -> Path:
    checkpoint.save(path / "checkpoints" / "0000000010-0000000000", given)
    (path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


LINE = {"frames": 10, "seconds": 1.0, "time/frames_per_s": 7.0, "train/reward": 0.5}


def test_equal_runs_may_take_different_times(tmp_path: Path) -> None:
    one = run(tmp_path / "1", state(), LINE)
    two = run(
        tmp_path / "2", state(stopwatch={"seconds": 99.0}), LINE | {"seconds": 5.0, "time/x": 1.0}
    )
    found = differences(one, two)
    assert not any(found.values())
    assert found.keys() == {
        *("metrics.jsonl", "counters", "networks", "optimizers", "environments", "hook replay"),
        *("metrics", "random numbers"),
    }


@pytest.mark.parametrize(
    ("changes", "component", "told"),
    [
        ({"clock": {"frames": 11}}, "counters", "/clock/frames: 10, 11"),
        (
            {"phases": [{"loss": {"weight": torch.tensor([1, 1, 1.5])}, "optimizers": []}]},
            "networks",
            "/phases/0/loss/weight: 1 of 3 numbers, up to 0.5 apart",
        ),
        (
            {"phases": [{"loss": {"weight": torch.ones(3).double()}, "optimizers": []}]},
            "networks",
            "torch.float32 [3], torch.float64 [3]",
        ),
        (
            {"phases": [{"loss": {"weight": torch.ones(3)}, "optimizers": [{"lr": 0.2}]}]},
            "optimizers",
            "/phases/0/optimizers/0/lr: 0.1, 0.2",
        ),
        ({"hooks": {"replay": {"frames": table(2.5)}}}, "hook replay", "up to 0.5 apart"),
        ({"hooks": {}}, "hook replay", "/hooks/replay/frames/x is only in the first"),
        ({"random": {"torch": torch.arange(5)}}, "random numbers", "torch.int64 [4]"),
        ({"random": {"torch": 4}}, "random numbers", "/random/torch: tensor"),
        ({"collector": {"seconds_left": 3.0}}, "environments", "only in the second"),
        (
            {"collector": {"steps": [3], "observation": torch.tensor([1.0, 2.0])}},
            "environments",
            "1 of 2 numbers",
        ),
    ],
)
def test_what_differs_is_named(
    changes: dict[str, Any], component: str, told: str, tmp_path: Path
) -> None:
    one = run(tmp_path / "1", state(), LINE)
    two = run(tmp_path / "2", state(**changes), LINE)
    found = differences(one, two)
    assert any(told in each for each in found[component]), found[component]
    assert all(not each for name, each in found.items() if name not in (component, "optimizers"))


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ((LINE, LINE), "1 lines, 2 lines"),
        ((LINE | {"train/reward": 0.6},), "line 1: train/reward is 0.5, 0.6"),
        ((LINE | {"train/kl": 0.1},), "line 1: train/kl is None, 0.1"),
    ],
)
def test_lines_that_differ(lines: tuple[dict[str, Any], ...], told: str, tmp_path: Path) -> None:
    one = run(tmp_path / "1", state(), LINE)
    two = run(tmp_path / "2", state(), *lines)
    assert differences(one, two)["metrics.jsonl"] == [told]


def test_the_best_policy_counts(tmp_path: Path) -> None:
    one, two = (run(tmp_path / name, state(), LINE) for name in "12")
    for path, weight in ((one, 1.0), (two, 2.0)):
        checkpoint.save(path / "best", {"policy": {"weight": torch.tensor(weight)}})
    assert differences(one, two)["best policy"] == ["/policy/weight: 1 of 1 numbers, up to 1 apart"]


def test_a_best_policy_that_is_not_there_is_a_difference(tmp_path: Path) -> None:
    one, two = (run(tmp_path / name, state(), LINE) for name in "12")
    checkpoint.save(two / "best", {"policy": {}})
    assert differences(one, two)["best policy"] == ["only the second has one"]


def test_zeros_of_another_sign_differ(tmp_path: Path) -> None:
    one = run(tmp_path / "1", state(random={"torch": torch.tensor(0.0), "x": 0.0}), LINE)
    two = run(tmp_path / "2", state(random={"torch": torch.tensor(-0.0), "x": -0.0}), LINE)
    assert len(differences(one, two)["random numbers"]) == 2


def test_a_run_without_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(checkpoint.CheckpointError, match="has no checkpoint"):
        differences(tmp_path, tmp_path)

"""What was published is drawn where it belongs, with its source."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.made_up_runs import make_run

from trainers.reporting import anchors as module
from trainers.reporting.anchors import anchors
from trainers.reporting.figures import GREY, Look
from trainers.reporting.groups import grouped
from trainers.reporting.report import _published
from trainers.reporting.runs import read

DATA = json.loads(Path(module.__file__).with_name("anchors.json").read_text())


@pytest.mark.parametrize(
    ("algo", "env", "expected"),
    [
        ("sac", "HalfCheetah-v5", [(50_000, 4212), (100_000, 6156), (1_000_000, 11321)]),
        ("sac", "Hopper-v5", [(100_000, 1103)]),
        ("sac", "Walker2d-v5", [(100_000, 690)]),
        ("crossq", "HalfCheetah-v5", [(50_000, 6345), (100_000, 8112), (1_000_000, 12893)]),
        ("redq", "HalfCheetah-v5", [(50_000, 6477), (100_000, 7823), (1_000_000, 11506)]),
        ("td3", "HalfCheetah-v5", [(50_000, 3352), (100_000, 5514), (1_000_000, 9567)]),
        ("ppo", "HalfCheetah-v5", [(1_000_000, 5784), (1_000_000, 5819)]),
        ("ppo", "Hopper-v5", [(1_000_000, 2609), (1_000_000, 2410)]),
        ("ppo", "Walker2d-v5", [(1_000_000, 3588), (1_000_000, 3479)]),
        ("sac", "Pendulum-v1", [(20_000, -157)]),
        ("ppo", "Pendulum-v1", [(100_000, -172)]),
        ("ppo", "CartPole-v1", [(100_000, 500)]),
        ("ppo", "LunarLander-v3", [(1_000_000, 242)]),
        ("ppo", "Ant-v5", []),
        ("mine", "HalfCheetah-v5", []),
    ],
)
def test_the_published_scores(algo: str, env: str, expected: list[tuple[int, int]]) -> None:
    assert [(each.frames, round(each.score)) for each in anchors(algo, env)] == expected


def test_each_has_a_source_that_can_be_looked_up() -> None:
    for entry in DATA["anchors"]:
        (found,) = [
            anchor
            for anchor in anchors(entry["algo"], entry["shown_for"][0])
            if anchor.score == entry["score"] and anchor.frames == entry["frames"]
        ]
        assert "github.com/" in found.citation
        assert found.env == entry["env"]
        assert found.seeds > 1 or found.std is None


def test_those_are_shown_that_the_runs_have_come_to(tmp_path: Path) -> None:
    make_run(tmp_path / "a", [1.0], every=100_352, seed=1)
    make_run(tmp_path / "b", [1.0], every=100_352, seed=2)
    (group,), _ = grouped([read(path) for path in sorted(tmp_path.iterdir())])
    assert [anchor.frames for anchor in group.anchors] == [50_000, 100_000]


def test_another_task_of_the_environment_has_none(tmp_path: Path) -> None:
    changed = {"env.kwargs": {"ctrl_cost_weight": 0.0}}
    make_run(tmp_path / "a", [1.0], every=100_000, settings=changed)
    (group,), _ = grouped([read(tmp_path / "a")])
    assert group.anchors == []


def test_a_published_score_has_the_colour_of_its_method(tmp_path: Path) -> None:
    for algo in ("sac", "td3"):
        make_run(tmp_path / algo, [1.0], every=100_000, algo=algo)
    look = {name: Look(f"#{name}", "-") for name in ("sac", "td3", "sac batch_size=8")}
    groups, _ = grouped([read(path) for path in sorted(tmp_path.iterdir())])
    drawn = [(a.algo, a.frames, colour) for a, colour in _published(groups, "frames", look)]
    assert drawn == [
        (algo, frames, f"#{algo}") for algo in ("sac", "td3") for frames in (50_000, 100_000)
    ]
    drawn = [(a.algo, a.frames, colour) for a, colour in _published(groups, "seconds", look)]
    assert drawn == [("sac", 100_000, "#sac"), ("td3", 100_000, "#td3")]

    several = [*groups, replace(groups[0], method="sac batch_size=8")]
    colours = {a.algo: colour for a, colour in _published(several, "frames", look)}
    assert colours == {"sac": GREY, "td3": "#td3"}

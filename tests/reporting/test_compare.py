"""Methods beside each other, at frames that all of them have come to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from support.made_up_runs import make_run

from trainers.reporting.compare import THRESHOLDS, Comparison, compare
from trainers.reporting.groups import grouped
from trainers.reporting.runs import read

Finals = dict[tuple[str, str], Sequence[float]]


def compared(folder: Path, finals: Finals, **frames: int) -> tuple[Comparison | None, list[str]]:
    """Of runs with these final returns by algorithm and environment, a seed each."""
    paths = []
    for (algo, env), returns in finals.items():
        for seed, value in enumerate(returns):
            evaluations = [value] * frames.get(algo, 3)
            path = folder / f"{algo}-{env}-{seed}"
            paths.append(make_run(path, evaluations, algo=algo, env=env, seed=seed))
    groups, _ = grouped([read(path) for path in paths])
    return compare(groups)


def test_two_methods_on_two_tasks(tmp_path: Path) -> None:
    finals: Finals = {
        ("sac", "A-v0"): [0.0, 10.0],
        ("ppo", "A-v0"): [5.0, 5.0],
        ("sac", "B-v0"): [-100.0, -300.0],
        ("ppo", "B-v0"): [-500.0, -400.0],
    }
    found, left_out = compared(tmp_path, finals)
    assert found is not None
    assert left_out == []
    assert found.frames == {"A-v0": 3000, "B-v0": 3000}
    assert found.seeds == {"ppo": 4, "sac": 4}
    # Normalised by task: sac 0, 1 and 1, 0.5; ppo 0.5, 0.5 and 0, 0.25.
    assert list(found.iqm) == ["sac", "ppo"]
    assert found.iqm["sac"][0] == 0.75
    assert found.iqm["ppo"][0] == 0.375
    ((x, y, (value, low, high)),) = found.improvements
    assert (x, y) == ("sac", "ppo")
    assert value == (0.5 + 1.0) / 2  # a half of the pairs on A, all on B
    assert low <= value <= high
    share, below, above = found.profiles["sac"]
    at = {threshold: share[np.searchsorted(THRESHOLDS, threshold)] for threshold in (0, 0.5, 0.75)}
    assert at == {0: 0.75, 0.5: 0.5, 0.75: 0.5}
    assert (below <= share).all()
    assert (share <= above).all()


def test_scores_are_of_frames_that_all_have_come_to(tmp_path: Path) -> None:
    for seed in (0, 1):
        rising = [1.0, 2.0, 3.0, 100.0]
        make_run(tmp_path / f"long{seed}", rising, seed=seed, algo="ppo")
        make_run(tmp_path / f"short{seed}", [4.0, 4.0, 4.0], seed=seed, algo="sac")
    groups, _ = grouped([read(path) for path in sorted(tmp_path.iterdir())])
    found, _ = compare(groups)
    assert found is not None
    assert found.frames == {"HalfCheetah-v5": 3000}
    assert [(x, y, value[0]) for x, y, value in found.improvements] == [("sac", "ppo", 1.0)]


def evaluated(folder: Path, **every: int) -> Comparison | None:
    """Of two seeds for each algorithm, evaluated every so many frames; the return is the frame."""
    for algo, interval in every.items():
        for seed in (0, 1):
            returns = [frames + seed for frames in range(interval, 12_001, interval)]
            make_run(folder / f"{algo}{seed}", returns, algo=algo, seed=seed, every=interval)
    groups, _ = grouped([read(path) for path in sorted(folder.iterdir())])
    return compare(groups)[0]


def test_methods_are_compared_at_the_same_frames_whenever_they_were_evaluated(
    tmp_path: Path,
) -> None:
    found = evaluated(tmp_path, sac=1000, ppo=3000, td3=5000)
    assert found is not None
    assert found.frames == {"HalfCheetah-v5": 10_000}  # as far as td3 has come
    # They are as good as each other, though their last three evaluations are not.
    assert {value[0] for *_, value in found.improvements} == {0.5}
    assert {value[0] for value in found.iqm.values()} == {0.5}


def test_a_run_that_began_where_another_had_ended_is_not_compared(tmp_path: Path) -> None:
    for seed in (0, 1):
        make_run(tmp_path / f"early{seed}", seed=seed, algo="ppo")
        make_run(tmp_path / f"late{seed}", [1.0], seed=seed, every=5000)
    groups, _ = grouped([read(path) for path in sorted(tmp_path.iterdir())])
    reason = "one of the runs was evaluated only after another had ended"
    left_out = [f"{algo} on HalfCheetah-v5: {reason}" for algo in ("ppo", "sac")]
    assert compare(groups) == (None, left_out)


def test_a_method_that_had_ended_early_keeps_no_others_from_it(tmp_path: Path) -> None:
    apart = "one of the runs was evaluated only after another had ended"
    lacks = "its method lacks a task of those that are compared"

    def add(algo: str, env: str, every: int = 5000) -> None:
        for seed in (0, 1):
            path = tmp_path / f"{algo}{env}{seed}"
            make_run(path, seed=seed, algo=algo, env=env, every=every)

    def found() -> tuple[list[str], list[str], list[str]]:
        groups, _ = grouped([read(path) for path in sorted(tmp_path.iterdir())])
        comparison, left_out = compare(groups)
        assert comparison is not None
        return sorted(comparison.iqm), list(comparison.frames), left_out

    for algo in ("sac", "td3", "tqc"):
        add(algo, "A-v0")
    add("redq", "A-v0", every=1000)
    assert found() == (["sac", "td3", "tqc"], ["A-v0"], [f"redq on A-v0: {apart}"])
    for algo in ("sac", "td3", "redq"):
        add(algo, "B-v0")
    assert found() == (
        ["sac", "td3"],
        ["A-v0", "B-v0"],
        [f"redq on A-v0: {apart}", f"tqc on A-v0: {lacks}", f"redq on B-v0: {apart}"],
    )


def test_of_as_many_scores_those_on_more_tasks_are_compared(tmp_path: Path) -> None:
    two = [1.0, 2.0]
    finals: Finals = {(algo, "A-v0"): two for algo in ("crossq", "redq", "sac", "td3")}
    finals |= {(algo, "B-v0"): two for algo in ("sac", "td3")}
    found, _ = compared(tmp_path, finals)
    assert found is not None
    assert (set(found.iqm), set(found.frames)) == ({"sac", "td3"}, {"A-v0", "B-v0"})


def test_seeds_do_not_weigh_tasks(tmp_path: Path) -> None:
    """SAC is better on both, and has more runs where both are worse, TD3 where both are better."""
    finals: Finals = {
        ("sac", "A-v0"): [20.0, 20.0, 20.0, 20.0, 20.0, 100.0],
        ("td3", "A-v0"): [0.0, 10.0],
        ("sac", "B-v0"): [100.0, 100.0],
        ("td3", "B-v0"): [0.0, 90.0, 90.0, 90.0, 90.0, 90.0],
    }
    found, _ = compared(tmp_path, finals)
    assert found is not None
    assert list(found.iqm) == ["sac", "td3"]


@pytest.mark.parametrize(
    ("finals", "reasons"),
    [
        ({("sac", "A-v0"): [1.0, 2.0]}, []),
        (
            {("sac", "A-v0"): [1.0, 2.0], ("ppo", "B-v0"): [1.0, 2.0]},
            ["sac on A-v0: no other method", "ppo on B-v0: no other method"],
        ),
        (
            {("sac", "A-v0"): [1.0, 2.0], ("ppo", "A-v0"): [1.0]},
            ["ppo on A-v0: 1 finished run, it takes two", "sac on A-v0: no other method"],
        ),
    ],
)
def test_nothing_to_compare(finals: Finals, reasons: list[str], tmp_path: Path) -> None:
    found, left_out = compared(tmp_path, finals)
    assert found is None
    for said, reason in zip(left_out, reasons, strict=True):
        assert said.startswith(reason)


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    two = [1.0, 2.0]
    finals: Finals = {(algo, "A-v0"): two for algo in ("sac", "ppo", "td3")}
    finals |= {(algo, "B-v0"): two for algo in ("sac", "ppo")}
    finals |= {(algo, "C-v0"): two for algo in ("ppo", "td3")}
    finals |= {("sac", "C-v0"): [1.0], ("td3", "D-v0"): two}
    found, left_out = compared(tmp_path, finals)
    assert found is not None
    assert (set(found.iqm), list(found.frames)) == ({"sac", "ppo"}, ["A-v0", "B-v0"])
    assert left_out == [
        "td3 on A-v0: its method lacks a task of those that are compared",
        "ppo on C-v0: not all of the methods that are compared have two finished runs there",
        "sac on C-v0: 1 finished run, it takes two to say anything",
        "td3 on C-v0: its method lacks a task of those that are compared",
        "td3 on D-v0: no other method has two finished runs there",
    ]


def test_equal_scores_are_no_improvement(tmp_path: Path) -> None:
    found, _ = compared(
        tmp_path, {("sac", "A-v0"): [500.0, 500.0], ("ppo", "A-v0"): [500.0, 500.0]}
    )
    assert found is not None
    assert found.improvements[0][2] == (0.5, 0.5, 0.5)
    assert found.iqm["sac"] == (1.0, 1.0, 1.0)


def test_unfinished_runs_are_not_compared(tmp_path: Path) -> None:
    for seed in (0, 1):
        make_run(tmp_path / f"a{seed}", seed=seed)
        make_run(tmp_path / f"b{seed}", seed=seed, algo="ppo", total_frames=9000)
    groups, _ = grouped([read(path) for path in sorted(tmp_path.iterdir())])
    found, left_out = compare(groups)
    assert found is None
    assert left_out[0] == "ppo on HalfCheetah-v5: 0 finished runs, it takes two to say anything"

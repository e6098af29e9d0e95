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


def compared(folder: Path, finals: Finals, **frames: int) -> Comparison | None:
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
    found = compared(tmp_path, finals)
    assert found is not None
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
    found = compare(groups)
    assert found is not None
    assert found.frames == {"HalfCheetah-v5": 3000}
    assert [(x, y, value[0]) for x, y, value in found.improvements] == [("sac", "ppo", 1.0)]


@pytest.mark.parametrize(
    "finals",
    [
        {("sac", "A-v0"): [1.0, 2.0]},
        {("sac", "A-v0"): [1.0, 2.0], ("ppo", "B-v0"): [1.0, 2.0]},
        {("sac", "A-v0"): [1.0, 2.0], ("ppo", "A-v0"): [1.0]},  # one seed
    ],
)
def test_nothing_to_compare(finals: Finals, tmp_path: Path) -> None:
    assert compared(tmp_path, finals) is None


def test_a_task_that_one_method_lacks_is_left_out(tmp_path: Path) -> None:
    two = [1.0, 2.0]
    found = compared(tmp_path, {("sac", "A-v0"): two, ("ppo", "A-v0"): two, ("ppo", "B-v0"): two})
    assert found is not None
    assert list(found.frames) == ["A-v0"]


def test_equal_scores_are_no_improvement(tmp_path: Path) -> None:
    found = compared(tmp_path, {("sac", "A-v0"): [500.0, 500.0], ("ppo", "A-v0"): [500.0, 500.0]})
    assert found is not None
    assert found.improvements[0][2] == (0.5, 0.5, 0.5)
    assert found.iqm["sac"] == (1.0, 1.0, 1.0)


def test_unfinished_runs_are_not_compared(tmp_path: Path) -> None:
    for seed in (0, 1):
        make_run(tmp_path / f"a{seed}", seed=seed)
        make_run(tmp_path / f"b{seed}", seed=seed, algo="ppo", total_frames=9000)
    groups, _ = grouped([read(path) for path in sorted(tmp_path.iterdir())])
    assert compare(groups) is None

"""Runs become one curve, each between its own measurements only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.made_up_runs import line, make_run, write_lines

from trainers.reporting.curves import MOST_POINTS, Curve, curve
from trainers.reporting.figures import _count
from trainers.reporting.groups import grouped
from trainers.reporting.runs import RETURN, read

Evaluations = list[tuple[int, float]] | list[tuple[int, None]]


def curve_of(folder: Path, *runs: Evaluations, clock: Any = "frames", total: int = 4000) -> Curve:
    """Of runs that were evaluated at these frames, at 100 frames a second."""
    paths = []
    for seed, evaluations in enumerate(runs):
        path = make_run(folder / f"{seed}", seed=seed, total_frames=total)
        lines = [
            line(frames, seconds=frames / 100, eval__episode_return=value)
            for frames, value in evaluations
        ]
        write_lines(path, lines)
        paths.append(path)
    (group,), _ = grouped([read(path) for path in paths])
    found = curve(group, RETURN, clock)
    assert found is not None
    return found


def test_runs_that_were_evaluated_at_the_same_frames(tmp_path: Path) -> None:
    runs = [[(2000, 1.0), (4000, value)] for value in (2.0, 3.0, 4.0, 100.0)]
    found = curve_of(tmp_path, *runs)
    assert found.x.tolist() == [2000, 4000]
    assert found.iqm.tolist() == [1, 3.5]
    assert (found.low[0], found.high[0]) == (1, 1)
    assert 2 <= found.low[1] < 3.5 < found.high[1] <= 100
    assert found.complete.all()
    assert len(found.runs) == 4


def test_runs_are_interpolated_to_common_points_within_their_range(tmp_path: Path) -> None:
    found = curve_of(
        tmp_path, [(1000, 0.0), (4000, 30.0)], [(2000, 0.0), (3000, 10.0), (4000, 0.0)]
    )
    assert found.x.tolist() == [1000, 2000, 3000, 4000]
    # The second one begins at 2000: it says nothing about 1000.
    assert found.count.tolist() == [1, 2, 2, 2]
    assert found.complete.tolist() == [False, True, True, True]
    assert found.iqm.tolist() == [0, 5, 15, 15]
    assert np.isnan([found.low[0], found.high[0]]).all()
    assert not np.isnan(found.low[1:]).any()


def test_a_run_has_no_part_after_its_end(tmp_path: Path) -> None:
    found = curve_of(tmp_path, [(1000, 0.0), (2000, 8.0)], [(1000, 2.0), (3000, 4.0)], total=9000)
    assert found.iqm.tolist() == [1, 5.5, 4]
    assert found.count.tolist() == [2, 2, 1]


def test_there_is_nothing_between_runs_that_do_not_meet(tmp_path: Path) -> None:
    found = curve_of(
        tmp_path, [(1000, 1.0), (1200, 1.0)], [(3000, 2.0), (3200, 2.0)], clock="seconds"
    )
    between = (found.x > 12) & (found.x < 30)
    assert between.any()
    assert np.isnan(found.iqm[between]).all()
    assert (found.count[between] == 0).all()


def test_unfinished_runs_stand_aside(tmp_path: Path) -> None:
    found = curve_of(tmp_path, [(1000, 0.0), (4000, 30.0)], [(1000, 500.0), (2000, 500.0)])
    assert found.iqm.tolist() == [0, 30]
    assert len(found.runs) == 1
    ((frames, values),) = found.aside
    assert (frames.tolist(), values.tolist()) == ([1000, 2000], [500, 500])


def test_a_run_that_was_never_measured_is_nowhere(tmp_path: Path) -> None:
    found = curve_of(tmp_path, [(1000, 0.0), (4000, 30.0)], [(1000, None), (2000, None)])
    assert (len(found.runs), len(found.aside)) == (1, 0)
    assert _count(found) == "1 seed"


def test_the_legend_counts_those_that_are_shown(tmp_path: Path) -> None:
    finished, late = [(1000, 0.0), (4000, 30.0)], [(1000, 500.0)]
    assert _count(curve_of(tmp_path / "a", finished, finished)) == "2 seeds"
    assert _count(curve_of(tmp_path / "b", late, late, total=9000)) == "2 seeds, unfinished"
    some = curve_of(tmp_path / "c", finished, finished, late)
    assert _count(some) == "2 finished, 1 unfinished"


def test_a_run_alone_has_no_interval(tmp_path: Path) -> None:
    found = curve_of(tmp_path, [(1000, 3.0), (4000, 5.0)])
    assert (found.x.tolist(), found.iqm.tolist()) == ([1000, 4000], [3, 5])
    assert np.isnan(found.low).all()


def test_over_time(tmp_path: Path) -> None:
    found = curve_of(
        tmp_path, [(1000, 0.0), (4000, 3.0)], [(2000, 1.0), (4000, 3.0)], clock="seconds"
    )
    assert (found.x[0], found.x[-1]) == (10, 40)
    at = np.searchsorted(found.x, 30)
    assert found.iqm[at] == pytest.approx(found.x[at] / 10 - 1)
    assert found.complete.tolist() == (found.x >= 20).tolist()


def test_many_points_become_fewer(tmp_path: Path) -> None:
    found = curve_of(tmp_path, [(frames, float(frames)) for frames in range(1, 4001)])
    assert len(found.x) == MOST_POINTS
    assert found.iqm == pytest.approx(found.x)
    assert (found.x[0], found.x[-1]) == (1, 4000)


def test_a_metric_that_no_run_has(tmp_path: Path) -> None:
    (group,), _ = grouped([read(make_run(tmp_path / "a"))])
    assert curve(group, "train/no_such", "frames") is None


def test_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a")
    lines = [
        line(1000, eval__episode_return=1.0),
        line(2000, eval__episode_return=None),
        line(3000, eval__episode_return=3.0, seconds=None),
    ]
    write_lines(path, lines)
    (group,), _ = grouped([read(path)])
    over_frames, over_time = (curve(group, RETURN, clock) for clock in ("frames", "seconds"))
    assert over_frames is not None
    assert over_time is not None
    assert over_frames.x.tolist() == [1000, 3000]
    assert over_time.iqm.tolist() == [1]

"""Several runs of a group as one curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from trainers.reporting.groups import Group
from trainers.reporting.runs import Run
from trainers.reporting.stats import interval, iqm, pooled_iqm

MOST_POINTS = 200
RESAMPLES = 2_000

Clock = Literal["frames", "seconds"]
Points = tuple[np.ndarray, np.ndarray]
"""Places on the clock, rising, and values."""


@dataclass(frozen=True)
class Curve:
    """Interquartile mean over runs at common points of a clock, with its 95 % interval."""

    x: np.ndarray
    iqm: np.ndarray
    low: np.ndarray
    high: np.ndarray
    count: np.ndarray  # runs that reach to the point; the others have no part in it
    runs: Sequence[Points]  # each by itself, where it was measured
    aside: Sequence[Points]  # unfinished runs, which have no part in the curve
    finished: bool  # the runs; where none is, the curve is of unfinished ones

    @property
    def complete(self) -> np.ndarray:
        """Where all runs have a part."""
        return self.count == len(self.runs)


def curve(group: Group, metric: str, clock: Clock, with_interval: bool = True) -> Curve | None:
    """The curve of a metric over a group's finished runs; None if there is no number of it.

    Where no run is finished yet it is over all of them. A run is interpolated between its own
    measurements, and has no part in what lies before its first or after its last.
    """
    counted = group.counted
    points = {run.path: measurements(run, metric, clock) for run in group.runs}
    measured = [points[run.path] for run in counted if len(points[run.path][0])]
    if not measured:
        return None
    others = [points[run.path] for run in group.runs if run not in counted]
    aside = [each for each in others if len(each[0])]
    x = _common(measured, clock)
    values = np.array([np.interp(x, *points, left=np.nan, right=np.nan) for points in measured])
    there = ~np.isnan(values)
    middle, low, high = (np.full(len(x), np.nan) for _ in range(3))
    for pattern in np.unique(there, axis=1).T:  # the runs that reach to the same points
        at = (there == pattern[:, None]).all(axis=0)
        if not pattern.any():
            continue  # between the end of one run and the start of another
        part = values[pattern][:, at]
        middle[at] = iqm(part)
        if with_interval and len(part) > 1:
            low[at], high[at] = interval([part], pooled_iqm, RESAMPLES)
    return Curve(x, middle, low, high, there.sum(axis=0), measured, aside, bool(group.finished))


def measurements(run: Run, metric: str, clock: Clock) -> Points:
    """Where a run was measured, each place once, the last measurement there."""
    series = run.series.get(metric)
    if series is None:
        return np.zeros(0), np.zeros(0)
    x, y = getattr(series, clock), series.values
    finite = np.isfinite(x) & np.isfinite(y)
    places, last = np.unique(x[finite][::-1], return_index=True)
    return places, y[finite][::-1][last]


def _common(measured: Sequence[Points], clock: Clock) -> np.ndarray:
    """Points for all: where they were measured, if that is not too many places, else evenly."""
    places = np.unique(np.concatenate([x for x, _ in measured]))
    if len(places) <= MOST_POINTS and (clock == "frames" or len(measured) == 1):
        return places
    return np.linspace(places[0], places[-1], MOST_POINTS)

"""Methods beside each other, over all tasks that they have in common."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from trainers.reporting.curves import Points, measurements
from trainers.reporting.groups import Group
from trainers.reporting.runs import RETURN
from trainers.reporting.stats import (
    Statistic,
    estimate,
    improvement,
    interval,
    pooled_iqm,
    profile,
)

THRESHOLDS = np.linspace(0, 1, 101)
MOST_METHODS_IN_PAIRS = 4

Curves = Mapping[tuple[str, str], Sequence[Points]]
"""Returns of the finished runs, by method and task."""

Interval = tuple[float, float, float]
"""An estimate, and the ends of its 95 % interval."""


@dataclass(frozen=True)
class Comparison:
    """Finished runs of several methods on the same tasks, at the same frames."""

    frames: Mapping[str, float]  # by task: what all of them have come to
    seeds: Mapping[str, int]  # by method: its runs on all tasks
    iqm: Mapping[str, Interval]  # by method, the best first: of the normalised scores
    profiles: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]  # by method, at THRESHOLDS
    improvements: Sequence[tuple[str, str, Interval]]  # X, Y, probability that X is better


def compare(groups: Sequence[Group]) -> tuple[Comparison | None, list[str]]:
    """Compare the methods that share tasks; None if there are not two of them.

    A run's score is the mean of its learning curve, interpolated between its evaluations, at three
    places that all runs of the task have in common, normalised by the lowest and the highest score.

    Returns:
        The comparison; and what has no part in it, with the reason, where there are two methods.
    """
    # Of a method that has one seed nothing can be said.
    curves = {
        (g.method, g.task): [measurements(run, RETURN, "frames") for run in g.finished]
        for g in groups
        if len(g.finished) > 1
    }
    methods, tasks = _shared(curves)
    frames: dict[str, float] = {}
    scores: dict[str, list[np.ndarray]] = {method: [] for method in methods}
    for task in tasks:
        places = _places(curves, methods, task)
        frames[task] = float(places[-1])
        raw = {
            method: np.array([np.interp(places, *curve).mean() for curve in curves[method, task]])
            for method in methods
        }
        for method, values in _normalised(raw).items():
            scores[method].append(values)
    left_out = [
        f"{group.method} on {group.task}: {_reason(group, curves, methods, tasks)}"
        for group in groups
        if group.method not in methods or group.task not in tasks
    ]
    if len({group.method for group in groups}) < 2:
        left_out = []  # nothing was to be compared
    if not tasks:
        return None, left_out
    iqms = {method: _number(scores[method], pooled_iqm) for method in methods}
    shares = profile(THRESHOLDS)
    comparison = Comparison(
        frames=frames,
        seeds={method: sum(map(len, scores[method])) for method in methods},
        iqm=dict(sorted(iqms.items(), key=lambda item: -item[1][0])),
        profiles={
            m: (estimate(scores[m], shares), *interval(scores[m], shares, 2_000)) for m in methods
        },
        improvements=list(_improvements(scores, {m: iqms[m][0] for m in methods})),
    )
    return comparison, left_out


def _places(curves: Curves, methods: Sequence[str], task: str) -> np.ndarray:
    """Where methods are compared on a task; nowhere, if a run began only after another had ended.

    As the last three evaluations of the run that has the fewest while all have a curve, moved up so
    that they end where the first of the curves does.
    """
    everything = [frames for method in methods for frames, _ in curves[method, task]]
    first = max(frames[0] for frames in everything)
    last = min(frames[-1] for frames in everything)
    if first > last:
        return np.zeros(0)
    within = [frames[(frames >= first) & (frames <= last)] for frames in everything]
    coarsest = min(filter(len, within), key=len)[-3:]
    return coarsest + (last - coarsest[-1])


def _reason(group: Group, curves: Curves, methods: Sequence[str], tasks: Sequence[str]) -> str:
    """Why a group has no part in a comparison of these methods on these tasks."""
    if (count := len(group.finished)) < 2:
        return f"{count} finished run{'s' * (count != 1)}, it takes two to say anything"
    there = {method for method, task in curves if task == group.task}
    if len(there) == 1:
        return "no other method has two finished runs there"
    if any((group.method, task) not in curves for task in tasks):
        return "its method lacks a task of those that are compared"
    if not there.issuperset(methods):
        return "not all of the methods that are compared have two finished runs there"
    return "one of the runs was evaluated only after another had ended"


def _shared(curves: Curves) -> tuple[list[str], list[str]]:
    """The methods and tasks to compare: of what each two methods share, the fullest."""
    has: dict[str, set[str]] = {}
    for method, task in curves:
        has.setdefault(method, set()).add(task)
    best: tuple[list[str], list[str]] = [], []
    for pair in combinations(has, 2):
        shared = has[pair[0]] & has[pair[1]]
        tasks = {task for task in shared if len(_places(curves, pair, task))}
        methods = list(pair)
        for method in (each for each in has if each not in pair):
            several = [*methods, method]
            if tasks <= has[method] and all(len(_places(curves, several, t)) for t in tasks):
                methods = several
        if _size(methods, tasks) > _size(*best):
            best = [method for method in has if method in methods], sorted(tasks)
    return best


def _size(methods: Collection[str], tasks: Collection[str]) -> tuple[int, int]:
    """How much a comparison shows: as many scores on more tasks are more."""
    return len(methods) * len(tasks), len(tasks)


def _normalised(scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Scores of a task so that the lowest of any method is 0 and the highest 1."""
    everything = np.concatenate(list(scores.values()))
    low, high = everything.min(), everything.max()
    if high == low:
        return {method: np.ones_like(values) for method, values in scores.items()}
    return {method: (values - low) / (high - low) for method, values in scores.items()}


def _number(strata: Sequence[np.ndarray], statistic: Statistic) -> Interval:
    low, high = interval(strata, statistic)
    return float(estimate(strata, statistic)), float(low), float(high)


def _improvements(
    scores: Mapping[str, Sequence[np.ndarray]], middle: Mapping[str, float]
) -> Iterator[tuple[str, str, Interval]]:
    """Each pair, the better one first; of many methods only the best beside the others."""
    ranked = sorted(scores, key=lambda method: -middle[method])
    pairs = list(combinations(ranked, 2))
    if len(ranked) > MOST_METHODS_IN_PAIRS:
        pairs = pairs[: len(ranked) - 1]
    for x, y in pairs:
        strata = [runs for task in zip(scores[x], scores[y], strict=True) for runs in task]
        yield x, y, _number(strata, improvement)

"""Methods beside each other, over all tasks that they have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    table = {(g.method, g.task): g.finished for g in groups if len(g.finished) > 1}
    methods, tasks = _shared(list(table))
    frames: dict[str, float] = {}
    scores: dict[str, list[np.ndarray]] = {method: [] for method in methods}
    for task in tasks:
        curves = {
            m: [measurements(run, RETURN, "frames") for run in table[m, task]] for m in methods
        }
        places = _places([curve for several in curves.values() for curve in several])
        if len(places) == 0:
            continue
        frames[task] = float(places[-1])
        raw = {
            method: np.array([np.interp(places, *curve).mean() for curve in several])
            for method, several in curves.items()
        }
        for method, values in _normalised(raw).items():
            scores[method].append(values)
    left_out = [
        f"{group.method} on {group.task}: {_reason(group, methods, tasks)}"
        for group in groups
        if group.method not in methods or group.task not in frames
    ]
    if len({group.method for group in groups}) < 2:
        left_out = []  # nothing was to be compared
    if not frames:
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


def _places(curves: Sequence[Points]) -> np.ndarray:
    """Where the curves of a task are compared; none, if one began only after another had ended.

    As the last three evaluations of the run that has the fewest while all have a curve, moved up so
    that they end where the first of the curves does.
    """
    first = max(frames[0] for frames, _ in curves)
    last = min(frames[-1] for frames, _ in curves)
    if first > last:
        return np.zeros(0)
    within = [frames[(frames >= first) & (frames <= last)] for frames, _ in curves]
    coarsest = min(filter(len, within), key=len)[-3:]
    return coarsest + (last - coarsest[-1])


def _reason(group: Group, methods: Sequence[str], tasks: Sequence[str]) -> str:
    """Why a group has no part in a comparison of these methods on these tasks."""
    if (count := len(group.finished)) < 2:
        return f"{count} finished run{'s' * (count != 1)}, it takes two to say anything"
    if not methods:
        return "no other method has two finished runs there"
    if group.method not in methods:
        return "its method lacks a task of those that are compared"
    if group.task not in tasks:
        return "not all of the methods that are compared have two finished runs there"
    return "one of the runs was evaluated only after another had ended"


def _shared(pairs: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """The methods and tasks to compare: of all sets of tasks that a method has, the fullest."""
    has: dict[str, set[str]] = {}
    for method, task in pairs:
        has.setdefault(method, set()).add(task)
    common = [has[x] & has[y] for x, y in combinations(has, 2)]
    best: tuple[list[str], list[str]] = [], []
    for tasks in common:
        methods = [method for method in has if tasks and tasks <= has[method]]
        if len(methods) * len(tasks) > len(best[0]) * len(best[1]):
            best = methods, sorted(tasks)
    return best


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

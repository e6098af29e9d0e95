"""From marks to values, and from values to ratios and verdicts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from benchmarks.rows import GFLOP_OF_AN_UPDATE, REFERENCES, Limit

Samples = dict[tuple[str, str], list[float]]
"""The values of a row and a contestant; of a row that grows, and a size."""


class MeasurementError(Exception):
    """A program failed, or said something else than what was asked."""


class MoreThan(float):
    """A time that was not waited for: the true one is longer than this number."""


def speed(marks: Sequence[Mapping[str, float]], after: int, unit: str = "frames") -> float:
    """``unit`` a second from the first mark at or after frame ``after`` to the last mark.

    Raises:
        MeasurementError: there are no two such marks, or no time between them.
    """
    steady = [mark for mark in marks if mark["frames"] >= after]
    if len(steady) < 2 or steady[-1]["seconds"] <= steady[0]["seconds"]:
        raise MeasurementError(f"no two marks, one after the other, from frame {after} on")
    first, last = steady[0], steady[-1]
    return (last[unit] - first[unit]) / (last["seconds"] - first["seconds"])


def time_to_pass(marks: Sequence[Mapping[str, float]], threshold: float) -> float:
    """Seconds from the first mark to the first evaluation that passes.

    If none does, more than those to the last mark, whatever came after it.
    """
    seconds = 0.0
    for mark in marks:
        seconds = mark["seconds"] - marks[0]["seconds"]
        if mark.get("return", -math.inf) >= threshold:
            return seconds
    return MoreThan(seconds)


def median(values: Sequence[float]) -> float:
    """As ever, while fewer than half of the values are :class:`MoreThan`; else one as well."""
    middle = statistics.median(
        math.inf if isinstance(value, MoreThan) else value for value in values
    )
    # What is known of each is at most what it is, so this is at most the median.
    return middle if math.isfinite(middle) else MoreThan(statistics.median(values))


def spread(values: Sequence[float]) -> tuple[float, float]:
    """The least and the largest; an end that is not known is a :class:`MoreThan`."""
    least, largest = min(values), max(values)
    unknown = any(isinstance(value, MoreThan) for value in values)
    return least, MoreThan(largest) if unknown else largest


def add_bound(samples: Samples) -> None:
    """Updates a second if nothing but the matrix multiplications took time, at the higher peak."""
    peaks = zip(
        samples.get(("matmul_256", "bare"), []),
        samples.get(("matmul_2048", "bare"), []),
        strict=True,
    )
    bounds = [max(each) / GFLOP_OF_AN_UPDATE for each in peaks]
    if bounds and ("updates", "ours") in samples:
        samples["updates", "bound"] = bounds


def add_references(samples: Samples) -> None:
    """Figures of others that are not measured here, beside ours that are."""
    for (row, whose), value in REFERENCES.items():
        if (row, "ours") in samples:
            samples[row, whose] = [value] * len(samples[row, "ours"])


def advantage(kind: str, ours: float, theirs: float) -> float:
    """How many times as good ours is; of an excess, how many seconds more it takes.

    More than that, if theirs was not waited for; 0 if ours was not.
    """
    if kind == "excess":
        return ours - theirs
    if kind == "rate":
        return ours / theirs
    if isinstance(ours, MoreThan):
        return 0.0
    return MoreThan(theirs / ours) if isinstance(theirs, MoreThan) else theirs / ours


def typical_advantage(kind: str, ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median over the rounds: a machine that gets slower on the way does so for both.

    Where a round lacks one of the two, that of the medians.
    """
    if len(ours) != len(theirs):
        return advantage(kind, median(ours), median(theirs))
    return median([advantage(kind, *each) for each in zip(ours, theirs, strict=True)])


def verdict(kind: str, figure: float, limit: Limit) -> str:
    """``goal``, ``must`` or ``MISSED``; ``not the goal`` where there is nothing else to reach.

    ``not known`` if the figure is more than it was waited for, and that is not enough.
    """

    def reached(bound: float | None) -> bool:
        return bound is not None and (figure <= bound if kind == "excess" else figure >= bound)

    if reached(limit.goal):
        return "goal"
    if isinstance(figure, MoreThan) and not reached(limit.must):
        return "not known"
    if limit.must is None:
        return "not the goal"
    return "must" if reached(limit.must) else "MISSED"


def number(value: float) -> str:
    """Three digits at least."""
    digits = f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"
    return f"> {digits}" if isinstance(value, MoreThan) else digits

"""The page: all of a report in one file that needs no other, and no network."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from trainers.reporting.figures import short
from trainers.reporting.groups import Group, plain
from trainers.reporting.report import Report
from trainers.reporting.stats import estimate, interval, pooled_iqm


def as_html(report: Report, reload_s: float | None = None) -> str:
    """The page; it reloads itself every ``reload_s`` seconds, if that is given."""
    templates = Environment(
        loader=PackageLoader("trainers.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"number": number, "duration": duration, "short": short, "plain": plain}
    runs = [run for group in report.groups for run in group.runs]
    return templates.get_template("page.html").render(
        report=report,
        reload_s=None if reload_s is None else max(1, round(reload_s)),
        now=f"{datetime.now():%Y-%m-%d %H:%M:%S}",
        rows=[_row(group) for group in report.groups],
        runs=runs,
        usual=_usual(report.groups),
        anchors=list(dict.fromkeys(a for group in report.groups for a in group.anchors)),
    )


def _usual(groups: Sequence[Group]) -> dict[str, dict[str, str]]:
    """What the names of methods leave out, by algorithm."""
    named = {g.runs[0].algo: {k: v for k, v in g.usual.items() if v} for g in groups}
    return {algo: usual for algo, usual in named.items() if usual}


@dataclass(frozen=True)
class Row:
    """A group in the table of results."""

    group: Group
    seeds: str  # how many, and what became of them
    scores: np.ndarray  # one for each seed that counts
    iqm: float
    low: float
    high: float
    frames: str
    seconds: float
    frames_per_s: float


def _row(group: Group) -> Row:
    values = [run.score() for run in group.counted]
    scores = np.array([value for value in values if not math.isnan(value)])
    middle = float(estimate([scores], pooled_iqm)) if len(scores) else math.nan
    low, high = interval([scores], pooled_iqm) if len(scores) > 1 else (math.nan, math.nan)
    runs = group.counted
    ends = sorted(run.frames for run in runs)
    return Row(
        group=group,
        seeds=_seeds(group),
        scores=scores,
        iqm=middle,
        low=float(low),
        high=float(high),
        frames=" to ".join(dict.fromkeys([short(ends[0]), short(ends[-1])])),
        seconds=statistics.median(run.seconds for run in runs),
        frames_per_s=float(np.median([run.frames_per_s for run in runs])),
    )


def _seeds(group: Group) -> str:
    """How many there are; and how many are finished, or failed, if not all are finished."""
    count, finished, failed = len(group.runs), len(group.finished), len(group.failed)
    if finished == count:
        return f"{count}"
    if failed == count:
        return f"{count}, failed"
    state = "running" if group.runs[0].state == "running" else "unfinished"
    text = f"{finished} finished of {count}" if finished else f"{count}, {state}"
    return f"{text}, {failed} failed" if failed else text


def number(value: float) -> str:
    """A score with as many digits as can be read."""
    if not np.isfinite(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"

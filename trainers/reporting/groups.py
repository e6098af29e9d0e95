"""Which runs are the same but for their seed, and what the others are called."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

from trainers.reporting.anchors import Anchor, anchors
from trainers.reporting.runs import METRICS_FILE, Run

LONGEST_NAME = 64
_NO_WORDS = ("null", "true", "false")


@dataclass(frozen=True)
class Group:
    """Runs of one algorithm with one set of settings on one task, a seed each."""

    method: str  # the algorithm, and what tells it from others of its kind; the same on all tasks
    varied: Mapping[str, str]  # the settings that tell it from others of its algorithm on its task
    usual: Mapping[str, str]  # what the algorithm has where the name of the method does not say it
    runs: Sequence[Run]  # by seed

    @property
    def task(self) -> str:
        return self.runs[0].task

    @property
    def anchors(self) -> list[Anchor]:
        """What was published of the algorithm on the task, as far as the runs go."""
        reached = max(run.frames for run in self.runs)
        return [a for a in anchors(self.runs[0].algo, self.task) if a.frames <= 1.02 * reached]

    @property
    def finished(self) -> list[Run]:
        """Those that came to their end and were evaluated there."""
        return [run for run in self.runs if run.state == "finished" and not isnan(run.score())]

    @property
    def failed(self) -> list[Run]:
        """Those that ended with an error."""
        return [run for run in self.runs if run.state == "failed"]

    @property
    def counted(self) -> Sequence[Run]:
        """Those that stand for the group: the finished ones; all, where there is none."""
        return self.finished or self.runs


@dataclass(frozen=True)
class LeftOut:
    """A run that does not count, and why."""

    path: Path
    reason: str


def grouped(runs: Sequence[Run]) -> tuple[list[Group], list[LeftOut]]:
    """The groups, by task, algorithm and settings; and runs that repeat a seed of theirs.

    A repeated run is no further sample, however often it is made: the one that came farthest
    counts, of several the one whose metrics were written last.
    """
    same: dict[tuple[str, str, str], dict[int, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        key = (run.task, run.algo, json.dumps(dict(run.settings), default=str))
        same[key][run.seed].append(run)
    chosen: dict[tuple[str, str, str], list[Run]] = {}
    left_out = []
    for key, by_seed in sorted(same.items()):
        for seed in sorted(by_seed):
            best, *others = sorted(by_seed[seed], key=_standing, reverse=True)
            chosen.setdefault(key, []).append(best)
            reason = f"seed {seed} with the same settings as {best.path}, which counts"
            left_out += [LeftOut(run.path, reason) for run in others]
    members = list(chosen.values())
    varied = _varied(members)
    usual = _usual(members, varied)
    names = _names(members, varied, usual)
    groups = [
        Group(name, local, usual[runs[0].algo], runs)
        for name, local, runs in zip(names, varied, members, strict=True)
    ]
    return groups, left_out


def _standing(run: Run) -> tuple[bool, int, float]:
    return run.state == "finished", run.frames, (run.path / METRICS_FILE).stat().st_mtime


def _varied(groups: Sequence[Sequence[Run]]) -> list[dict[str, str]]:
    """For each group the settings that differ between groups of its algorithm on its task."""
    together: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for first, *_ in groups:
        together[first.task, first.algo].append(first)
    varied = []
    for first, *_ in groups:
        others = together[first.task, first.algo]
        keys = sorted({key for run in others for key in run.settings})
        differ = [key for key in keys if len({_text(run, key) for run in others}) > 1]
        varied.append({key: _text(first, key) for key in differ})
    return varied


def _usual(
    groups: Sequence[Sequence[Run]], varied: Sequence[Mapping[str, str]]
) -> dict[str, dict[str, str]]:
    """For each algorithm the values that most of its groups have of what varies on any task.

    What differs only from task to task (a preset) does not make another method.
    """
    firsts: dict[str, list[Run]] = defaultdict(list)
    keys: dict[str, set[str]] = defaultdict(set)
    for (first, *_), local in zip(groups, varied, strict=True):
        firsts[first.algo].append(first)
        keys[first.algo] |= set(local)
    usual: dict[str, dict[str, str]] = {}
    for algo, runs in firsts.items():
        usual[algo] = {}
        for key in sorted(keys[algo]):
            ((value, count),) = Counter(_text(run, key) for run in runs).most_common(1)
            usual[algo][key] = value if count > len(runs) / 2 else ""
    return usual


def _names(
    groups: Sequence[Sequence[Run]],
    varied: Sequence[Mapping[str, str]],
    usual: Mapping[str, Mapping[str, str]],
) -> list[str]:
    """A name for the method of each group: its algorithm, and what is not as usual.

    Names that get too long become numbers.
    """
    names, long = [], []
    for first, *_ in groups:
        values = {key: _text(first, key) for key in usual[first.algo]}
        unusual = {key: v for key, v in values.items() if v != usual[first.algo][key]}
        settings = [f"{key.removeprefix('algo.')}={value}" for key, value in unusual.items()]
        name = " ".join([first.algo, *settings])
        if len(name) > LONGEST_NAME:
            if name not in long:
                long.append(name)
            name = f"{first.algo} #{long.index(name) + 1}"
        names.append(name)
    return names


def _text(run: Run, key: str) -> str:
    return plain(run.settings.get(key))


def plain(value: Any) -> str:
    """A setting as a user types it."""
    word = isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w./-]*", value)
    return value if word and value not in _NO_WORDS else json.dumps(value, default=str)

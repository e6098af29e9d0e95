"""From runs to a report: which pictures there are, and where they go."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainers.reporting import figures
from trainers.reporting.anchors import Anchor
from trainers.reporting.compare import THRESHOLDS, Comparison, compare
from trainers.reporting.curves import Clock, Curve, curve
from trainers.reporting.figures import GREY, Look
from trainers.reporting.groups import Group, LeftOut, grouped
from trainers.reporting.runs import RETURN, Run

# Shown beside the losses where they are logged, with their unit.
_TRAINING = {
    "train/episode_return": "return while training",
    "train/success_rate": "share of successes while training",
    "train/alpha": "temperature",
    "train/entropy": "entropy of the policy",
    "train/kl": "KL divergence of an iteration",
    "train/clip_fraction": "share of clipped ratios",
    "train/explained_variance": "explained variance of the value",
    "train/grad_norm": "norm of the gradients",
    "train/grad_norm/critic": "norm of the critics' gradients",
    "train/grad_norm/actor": "norm of the actor's gradients",
    "time/frames_per_s": "frames per second",
}


@dataclass(frozen=True)
class Picture:
    """A PNG and what it shows."""

    name: str  # of its file, without the ending
    png: bytes
    alt: str

    @property
    def data(self) -> str:
        """As it is embedded in the page."""
        return base64.b64encode(self.png).decode()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return int.from_bytes(self.png[16:20]), int.from_bytes(self.png[20:24])


@dataclass(frozen=True)
class Section:
    """What is shown of one task."""

    task: str
    results: Sequence[Picture]
    training: Sequence[Picture]


@dataclass(frozen=True)
class Report:
    """Everything that there is to show."""

    title: str
    groups: Sequence[Group]
    left_out: Sequence[LeftOut]
    sections: Sequence[Section]
    comparison: Comparison | None
    not_compared: Sequence[str]  # what has no part in that, and why
    compared: Sequence[Picture]

    @property
    def pictures(self) -> list[Picture]:
        """All of them."""
        shown = [p for section in self.sections for p in (*section.results, *section.training)]
        return [*shown, *self.compared]

    @property
    def problems(self) -> list[tuple[Path, str]]:
        """What could not be read, or does not count, by run."""
        runs = [run for group in self.groups for run in group.runs]
        found = [(run.path, problem) for run in runs for problem in run.problems]
        return [*found, *((each.path, f"left out: {each.reason}") for each in self.left_out)]


def make_report(runs: Sequence[Run], left_out: Sequence[LeftOut] = ()) -> Report:
    """The report on some runs, at least one, and on those that cannot be read."""
    groups, repeated = grouped(runs)
    look = figures.looks(list(dict.fromkeys(group.method for group in groups)))
    by_task: dict[str, list[Group]] = {}
    for group in groups:
        by_task.setdefault(group.task, []).append(group)
    comparison, not_compared = compare(groups)
    return Report(
        title=_title(groups),
        groups=groups,
        left_out=[*left_out, *repeated],
        sections=[_section(task, members, look) for task, members in by_task.items()],
        comparison=comparison,
        not_compared=not_compared,
        compared=[] if comparison is None else _compared(comparison, look),
    )


def _title(groups: Sequence[Group]) -> str:
    first, count = groups[0].runs[0], sum(len(group.runs) for group in groups)
    if count == 1:
        return f"{first.algo} on {first.task}, seed {first.seed}"
    *others, last = dict.fromkeys(group.runs[0].algo for group in groups)
    algorithms = f"{', '.join(others)} and {last}" if others else last
    tasks = list(dict.fromkeys(group.task for group in groups))
    where = tasks[0] if len(tasks) == 1 else f"{len(tasks)} tasks"
    return f"{algorithms} on {where}, {count} runs"


def _section(task: str, groups: Sequence[Group], look: Mapping[str, Look]) -> Section:
    """The pictures of a task: of results with seeds and intervals, of the training without."""

    def draw(name: str, unit: str, clock: Clock = "frames", result: bool = False) -> list[Picture]:
        curves = _curves(groups, name, clock, with_interval=result)
        if not curves:
            return []
        shown = _published(groups, clock, look) if name == RETURN else []
        title = task if result else name
        png = figures.learning_curve(title, clock, unit, curves, look, shown, seeds=result)
        file = re.sub(r"[^\w.=-]+", "-", f"{task}-{name}-over-{clock}")
        return [Picture(file, png, f"{task}: {name} over {clock} by {', '.join(curves)}")]

    logged = sorted({name for group in groups for run in group.runs for name in run.series})
    # A loss that is a part of another one (the first critic's of the critics') is left out.
    losses = [n for n in logged if n.startswith("loss/") and not re.search(r"_\d+$", n)]
    others = {name: unit for name, unit in _TRAINING.items() if name in logged}
    return Section(
        task,
        results=[
            *draw(RETURN, "evaluation return", result=True),
            *draw(RETURN, "evaluation return", "seconds", result=True),
            *draw("eval/success_rate", "share of successful episodes", result=True),
        ],
        training=[
            picture
            for name, unit in (others | dict.fromkeys(losses, "loss")).items()
            for picture in draw(name, unit)
        ],
    )


def _published(
    groups: Sequence[Group], clock: Clock, look: Mapping[str, Look]
) -> list[tuple[Anchor, str]]:
    """What was published, each in the colour of its method, or grey if there are several of it.

    Over time, where its frames cannot be seen, the last of each source.
    """
    colours: dict[Anchor, str] = {}
    for group in groups:
        for anchor in group.anchors:
            colours[anchor] = GREY if anchor in colours else look[group.method].colour
    if clock == "seconds":
        last = {(anchor.algo, anchor.source): anchor for anchor in colours}
        colours = {anchor: colours[anchor] for anchor in last.values()}
    return list(colours.items())


def _curves(
    groups: Sequence[Group], metric: str, clock: Clock, with_interval: bool
) -> dict[str, Curve]:
    found = {g.method: curve(g, metric, clock, with_interval) for g in groups}
    return {method: each for method, each in found.items() if each is not None}


def _compared(comparison: Comparison, look: Mapping[str, Look]) -> list[Picture]:
    tasks = f"{len(comparison.frames)} task{'s' * (len(comparison.frames) > 1)}"
    methods = ", ".join(comparison.profiles)
    rows = [(f"{x} > {y}", *values) for x, y, values in comparison.improvements]
    colours = [look[x].colour for x, _, _ in comparison.improvements]
    return [
        Picture(
            "performance-profiles",
            figures.profiles(
                f"Performance profiles, {tasks}", THRESHOLDS, comparison.profiles, look
            ),
            f"Share of runs above each normalised score, by {methods}",
        ),
        Picture(
            "probability-of-improvement",
            figures.improvements(f"Probability of improvement, {tasks}", rows, colours),
            "; ".join(f"{label}: {value:.2f}" for label, value, *_ in rows),
        ),
    ]

"""What was learnt: small copies of the runs, and the page that is made from these alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.learning import Job, Planned
from benchmarks.report import markdown
from benchmarks.training import sessions, sessions_file
from trainers.config.run_dir import CONFIG_FILE
from trainers.disk import write_whole
from trainers.reporting.anchors import Anchor, anchors
from trainers.reporting.figures import short
from trainers.reporting.page import duration, number
from trainers.reporting.report import make_report
from trainers.reporting.runs import METRICS_FILE, RETURN, NothingToReport, Run, read, read_lines

PAGE, FOLDER, NOTES = "results.md", "results", "notes.md"
CLOCK = ("frames", "updates", "seconds")

INTRODUCTION = """\
# Results

What the presets learn, by `make results`, which trains all of it, or goes on where it was stopped,
and writes this page. A figure is the mean of a run's last three evaluations (deterministic policy,
environments and seeds of its own), never the best; a row's is the mean over its seeds ± their
standard deviation (of n - 1). *Must* and *goal* are what this project asks of itself, *reached* is
which of the two it has come to: [what was tried where a goal was not
reached](#goals-that-were-not-reached). Presets were tuned, if at all, on seeds below 100.

† The seeds that are shown, or their like, prompted a change of this preset, which was then tuned on
others: this is no clean test of it. [What they returned before](#presets-that-were-tuned-again).

Pictures show interquartile means over the seeds with 95 % bootstrap intervals, which tend to be too
narrow with so few. All seeds are evaluated from the same start states (of `eval.seed`), so what
these contribute is in no interval. The time of a run is wall clock, of the seed in the middle, and
no measure of speed: other trainings and tests ran beside most of them ([benchmarks](benchmarks.md)
are apart). What is kept of each run (its evaluations, its configuration, the commit and the
machine) is in [`results/`](results/); `python scripts/results.py --page` makes the page from that.
"""

RETUNED = " †"

VERSIONS = """\
A score that was published for another version of the environment than the row's names it.
HalfCheetah, and LunarLander without wind, are the same tasks in all of these; since v5 Hopper and
Walker2d are no longer rewarded for standing in the step in which they fall, and Walker2d's right
foot slips less.
"""


@dataclass(frozen=True)
class Result:
    """What is kept of a row."""

    planned: Planned
    jobs: Sequence[Job]  # where it is kept, by seed
    runs: Mapping[int, Run]  # by seed: those that its command makes
    others: Mapping[int, Sequence[str]]  # seeds trained with other settings, and which
    broken: Mapping[int, str]  # seeds of which something is kept that cannot be read, and why

    @property
    def finished(self) -> list[Run]:
        """The runs that count."""
        return [run for run in self.runs.values() if run.state == "finished"]

    @property
    def complete(self) -> bool:
        return len(self.finished) == self.planned.row.seeds

    @property
    def mean(self) -> float:
        """Over the seeds that are finished; nan if there is none."""
        return float(np.mean([run.score() for run in self.finished])) if self.finished else np.nan

    @property
    def title(self) -> str:
        return f"{self.planned.row.algo} on {self.planned.config.env.id}"

    @property
    def anchors(self) -> list[Anchor]:
        """What was published after as many frames."""
        row = self.planned.row
        found = anchors(row.algo, self.planned.config.env.id)
        return [anchor for anchor in found if anchor.frames == row.frames]


def keep(job: Job, place: Path) -> None:
    """Copy the evaluations of a run, its configuration and what trained it.

    Not of a run that was trained with other settings than the command's; and what is kept already
    stays if it has come farther.
    """
    run = job.run()
    lines = [line for line in read_lines(job.run_dir / METRICS_FILE)[0] if RETURN in line]
    if not lines or run is None or job.planned.differences(run):
        return
    kept = replace(job, runs=place)
    old = kept.run()
    if old and old.frames > lines[-1]["frames"] and not job.planned.differences(old):
        return
    small = [
        {key: value for key, value in line.items() if key in CLOCK or key.startswith("eval/")}
        for line in lines
    ]
    kept.run_dir.mkdir(parents=True, exist_ok=True)
    write_whole(kept.run_dir / CONFIG_FILE, (job.run_dir / CONFIG_FILE).read_bytes())
    write_whole(sessions_file(kept), (json.dumps(sessions(job), indent=1) + "\n").encode())
    text = "".join(f"{json.dumps(line)}\n" for line in small)
    write_whole(kept.run_dir / METRICS_FILE, text.encode())


def result(planned: Planned, place: Path) -> Result:
    """What is kept of a row in ``place``."""
    jobs = [Job(planned, seed, place) for seed in planned.row.seed_numbers]
    found: dict[int, Run] = {}
    broken: dict[int, str] = {}
    for job in jobs:
        if not job.run_dir.exists():
            continue
        try:
            run = read(job.run_dir)
        except NothingToReport as error:
            broken[job.seed] = str(error)
            continue
        if isnan(run.score()):
            broken[job.seed] = f"no line of {METRICS_FILE} has an evaluation"
        else:
            found[job.seed] = run
    differ = {seed: planned.differences(run) for seed, run in found.items()}
    return Result(
        planned,
        jobs,
        runs={seed: run for seed, run in found.items() if not differ[seed]},
        others={seed: keys for seed, keys in differ.items() if keys},
        broken=broken,
    )


def write_page(rows: Sequence[Planned], out: Path) -> Path:
    """Write ``out/results.md``, and its pictures, from what is kept in ``out/results/``."""
    place = out / FOLDER
    results = [result(planned, place) for planned in rows]
    for each in results:
        if each.runs:
            picture = make_report(list(each.runs.values())).sections[0].results[0]
            write_whole(place / f"{each.planned.row.name}.png", picture.png)
    notes = place / NOTES
    parts = [
        INTRODUCTION,
        summary(results),
        *map(section, results),
        sources(results),
        notes.read_text("utf-8") if notes.exists() else "",
    ]
    text = "\n\n".join(part.strip() for part in parts if part) + "\n"
    return write_whole(out / PAGE, text.encode())


def summary(results: Sequence[Result]) -> str:
    """A line for each row, beside what it has to reach and what was published."""
    head = ("task", "frames", "seeds", "return", "must", "goal", "reached", "published", "a run")
    return markdown(head, [_line(each, _must(each, results)) for each in results])


def _line(each: Result, must: float | None) -> list[str]:
    row, count = each.planned.row, len(each.finished)
    took = f"{duration(np.median([run.seconds for run in each.finished]))}" if count else ""
    whose = f" ({row.must})" if isinstance(row.must, str) else ""
    return [
        f"[{each.title}](#{row.name.lower()}){RETUNED if row.retuned else ''}",
        short(row.frames),
        f"{row.seeds}" if each.complete else f"{count} of {row.seeds}",
        f"{number(each.mean)}{_spread(each)}",
        "" if must is None else f"{number(must)}{whose}",
        "" if row.goal is None else number(row.goal),
        _reached(each, must),
        "; ".join(_published(anchor, each.planned.config.env.id) for anchor in each.anchors),
        took,
    ]


def _spread(each: Result) -> str:
    if len(each.finished) < 2:
        return ""
    return f" ± {np.std([run.score() for run in each.finished], ddof=1):,.0f}"


def _must(each: Result, results: Sequence[Result]) -> float | None:
    """A number, or what another row comes to: nan before all of that one's seeds are there."""
    must = each.planned.row.must
    if not isinstance(must, str):
        return must
    return next((r.mean for r in results if r.planned.row.name == must and r.complete), np.nan)


def _reached(each: Result, must: float | None) -> str:
    """Goal, must or neither; nothing is said before all seeds are there."""
    row = each.planned.row
    if not each.complete:
        return "unfinished" if each.runs else ""
    if row.goal is not None and each.mean >= row.goal:
        return "goal"
    if must is None:
        return "" if row.goal is None else "below"
    if isnan(must):
        return "not known"
    return "must" if each.mean >= must else "MISSED"


def _published(anchor: Anchor, env: str) -> str:
    spread = f" ± {number(anchor.std)}" if anchor.std is not None else ""
    seeds = f"{anchor.seeds} seed{'s' * (anchor.seeds > 1)}"
    version = f", {anchor.version}" if anchor.env != env else ""
    return f"{number(anchor.score)}{spread} ({anchor.source}, {seeds}{version})"


def section(each: Result) -> str:
    """A row with its command, its picture, every single value, and what trained it."""
    row = each.planned.row
    arguments = " ".join(row.arguments)
    seeds = row.seed_numbers
    more = f"   # and so on to seed={seeds[-1]}" if len(seeds) > 1 else ""
    parts = [
        f"## {row.name}",
        f"```sh\npython scripts/train.py {arguments} seed={seeds[0]}{more}\n```",
    ]
    if not each.runs and not each.broken:
        parts.append("Not trained yet.")
    elif each.runs:
        parts.append(f"![{each.title}: evaluation return over frames]({FOLDER}/{row.name}.png)")
        head = ("seed", "last three evaluations", "at frames", "mean", "wall clock")
        parts.append(markdown(head, [_single(run) for run in each.runs.values()]))
        parts += _made_by(each)
    parts += [
        f"Seed {seed} does not count: it was trained with other settings than the command's "
        f"({', '.join(keys)})."
        for seed, keys in each.others.items()
    ]
    parts += [
        f"Seed {seed}: what is kept cannot be read: {why}." for seed, why in each.broken.items()
    ]
    return "\n\n".join(parts)


def _single(run: Run) -> list[str]:
    last = slice(-3, None)
    unfinished = run.state != "finished"
    end = f" (of {short(run.total_frames)}: unfinished)" if unfinished else ""
    return [
        f"{run.seed}",
        ", ".join(number(value) for value in run.evaluations.values[last]),
        ", ".join(short(frames) for frames in run.evaluations.frames[last]) + end,
        "" if unfinished else number(run.score()),
        duration(run.seconds),
    ]


def _made_by(each: Result) -> list[str]:
    """Which code trained the seeds, and on which machine; those that have it in common together."""
    seeds: dict[str, list[str]] = {}
    for job in each.jobs:
        if job.seed in each.runs:
            parts = list(dict.fromkeys(map(_session, sessions(job)))) or ["not known"]
            seeds.setdefault("; then ".join(parts), []).append(str(job.seed))
    return [f"Seed{'s' * (len(s) > 1)} {', '.join(s)}: {text}." for text, s in seeds.items()]


def _session(session: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in session["versions"].items())
    count = session["at_once"]
    runs = f"{count} runs at a time" if count > 1 else "one run at a time"
    return (
        f"{session['date'][:10]}, commit {session['commit']}, {runs} on {session['cores']} cores "
        f"of {session['cpu']}, {versions}"
    )


def sources(results: Sequence[Result]) -> str:
    """Where what was published is from."""
    cited = dict.fromkeys(anchor for each in results for anchor in each.anchors)
    lines = {f"- {a.source}: {a.of}. {a.citation}." for a in cited}
    return "\n".join(["## Published scores", "", *sorted(lines), "", VERSIONS]) if lines else ""

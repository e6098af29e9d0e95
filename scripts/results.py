"""Train what `docs/results.md` shows, or go on with it, and write the page: `make results`.

Ctrl-C stops all runs with a checkpoint and writes the page from what is there; the same command
goes on. Runs are in `runs/results/`: `python scripts/report.py runs/results` shows them.
Exit codes: 0 all is trained, 75 stopped by a signal, 2 wrong input, 1 a run failed or
could not be kept.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

# The benchmark is no part of the installed package.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.learned import FOLDER, PAGE, keep, write_page
from benchmarks.learning import Job, Planned, picked, read_list
from benchmarks.machine import ROOT
from benchmarks.training import train
from trainers.config import ConfigError
from trainers.config.writable import check_writable

FINISHED, FAILED, WRONG_INPUT, STOPPED, INTERRUPTED = 0, 1, 2, 75, 130


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG_INPUT, f"{self.prog}: {message}\n")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line; exits with code 2 and a line on what is wrong with it."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cores = len(os.sched_getaffinity(0))
    add = parser.add_argument
    add("--only", type=_names, default=[], metavar="ROW,ROW", help="train these only")
    add(
        "--jobs",
        type=_count,
        default=cores,
        metavar="N",
        help="runs at a time; default: %(default)s",
    )
    add("--page", action="store_true", help="train nothing, write the page from what is there")
    place = {"type": Path, "metavar": "PATH"}
    rows = ROOT / "benchmarks" / "learning.yaml"
    add("--list", **place, default=rows, help="the rows; default: benchmarks/learning.yaml")
    add("--runs", **place, default=Path("runs/results"), help="default: %(default)s")
    add("--out", **place, default=ROOT / "docs", help="of results.md and results/; default: docs")
    return parser.parse_args(argv)


def _names(text: str) -> list[str]:
    return text.split(",")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number from 1 on")
    return int(text)


def main(argv: Sequence[str]) -> int:
    """The exit code."""
    arguments = parse(argv)
    try:
        rows = read_list(arguments.list)
        chosen = picked(rows, arguments.only)
        place = arguments.out / FOLDER
        if (arguments.out / PAGE).is_dir():
            raise ConfigError("--out", str(arguments.out / PAGE), "a file", "there is a directory")
        check_writable("--out", place)
        if not arguments.page:
            check_writable("--runs", arguments.runs)
    except ConfigError as error:
        print(f"results.py: {error}", file=sys.stderr)
        return WRONG_INPUT

    def jobs(rows: Sequence[Planned]) -> list[Job]:
        return [Job(each, seed, arguments.runs) for each in rows for seed in each.row.seed_numbers]

    try:
        code = FINISHED if arguments.page else _trained(jobs(chosen), arguments.jobs, place)
        kept = [_kept(job, place) for job in jobs(rows)]
        print(write_page(rows, arguments.out))
    except OSError as error:
        _say(f"results.py: {error}")
        return FAILED
    return code if all(kept) else FAILED


def _trained(jobs: Sequence[Job], at_once: int, place: Path) -> int:
    """Train, and keep what is needed of each run as soon as it has ended; the exit code."""
    ready = []
    for job in jobs:
        if keys := _other_settings(job):
            _say(
                f"{job.title}: left as it is, since {job.run_dir} was trained with other settings "
                f"than the command's ({', '.join(keys)}); take it away to train it anew"
            )
        else:
            ready.append(job)
    outcome = train(ready, at_once, _say, ended=lambda job: _kept(job, place))
    if outcome.failed or len(ready) < len(jobs):
        return FAILED
    return STOPPED if outcome.stopped else FINISHED


def _kept(job: Job, place: Path) -> bool:
    """Keep what is needed of a run; if that fails, say why: it is tried once more at the end."""
    try:
        keep(job, place)
    except OSError as error:
        _say(f"{job.title}: NOT KEPT: {error}")
        return False
    return True


def _other_settings(job: Job) -> list[str]:
    run = job.run()
    return [] if run is None else job.planned.differences(run)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)

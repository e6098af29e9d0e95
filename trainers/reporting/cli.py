"""The command line of `scripts/report.py`: every wrong input is a line, before anything slow."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from trainers.config import ConfigError
from trainers.config.errors import did_you_mean
from trainers.config.writable import check_writable
from trainers.disk import WriteError, write_whole
from trainers.reporting.groups import LeftOut
from trainers.reporting.runs import NothingToReport, Run, find, read

USAGE = """\
usage: report.py RUN... [out=DIR]

Learning curves, losses, speed and a table of results, as PNG and as one HTML page.

  RUN      a run directory, or a folder that holds some
  out=DIR  where to write report.html and the pictures; by default into the run itself
           (RUN/report.html, RUN/report/), of several runs into ./report
"""
FAILED, WRONG_INPUT = 1, 2
RUNS = "a run directory, or a folder that holds some"


@dataclass(frozen=True)
class Places:
    """Where the page and the pictures go."""

    page: Path
    pictures: Path


def main(argv: Sequence[str]) -> int:
    """The exit code: 0 written, 2 wrong input, 1 the disk did not take it."""
    if {"-h", "--help"} & set(argv):
        print(USAGE, end="")
        return 0
    try:
        paths, out = parse(argv)
        runs, left_out = collect(paths)
        places = _places(runs, out)
        _check_installed()
        _check_writable(places)
    except ConfigError as error:
        print(f"report.py: {error}", file=sys.stderr)
        return WRONG_INPUT
    from trainers.reporting.page import as_html
    from trainers.reporting.report import make_report

    report = make_report(runs, left_out)
    try:
        write_whole(places.page, as_html(report).encode())
        for picture in report.pictures:
            write_whole(places.pictures / f"{picture.name}.png", picture.png)
    except WriteError as error:
        print(f"report.py: {error}", file=sys.stderr)
        return FAILED
    for path, problem in report.problems:
        print(f"report.py: {path}: {problem}", file=sys.stderr)
    print(f"{places.page} and {len(report.pictures)} pictures in {places.pictures}")
    return 0


def parse(argv: Sequence[str]) -> tuple[list[Path], Path | None]:
    """The paths of a command line, and where it wants the report."""
    paths, out = [], None
    for argument in argv:
        key, equals, value = argument.partition("=")
        if not equals or Path(argument).exists():
            paths.append(Path(argument))
        elif key == "run_dir":
            raise ConfigError(key, value, RUNS, f"without run_dir=: report.py {value}")
        elif key != "out":
            raise ConfigError(key, value, "run directories and out=DIR", did_you_mean(key, ["out"]))
        elif not value or out is not None:
            allowed = "a directory" if not value else "to be given once"
            raise ConfigError("out", value, allowed)
        else:
            out = Path(value)
    if not paths:
        raise ConfigError("RUN", None, RUNS)
    return paths, out


def collect(paths: Sequence[Path]) -> tuple[list[Run], list[LeftOut]]:
    """All runs at or below the paths, each once, and those that cannot be read."""
    places: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir():
            what = "there is a file" if path.exists() else "there is no such directory"
            raise ConfigError("RUN", str(path), RUNS, what)
        found = find(path)
        if not found:
            hint = "nothing in it has a config.yaml or a metrics.jsonl"
            raise ConfigError("RUN", str(path), RUNS, hint)
        places |= {place.resolve(): place for place in found}
    runs, left_out = [], []
    for place in places.values():
        try:
            runs.append(read(place))
        except NothingToReport as error:
            left_out.append(LeftOut(place, str(error)))
    if not runs:
        given = [str(each.path) for each in left_out]
        allowed = "a run that has written a line of metrics"
        raise ConfigError(
            "RUN", given[0] if len(given) == 1 else given, allowed, left_out[0].reason
        )
    return runs, left_out


def _places(runs: Sequence[Run], out: Path | None) -> Places:
    if out is None and len(runs) == 1:
        return Places(runs[0].path / "report.html", runs[0].path / "report")
    out = out or Path("report")
    return Places(out / "report.html", out)


def _check_installed() -> None:
    for package in ("matplotlib", "jinja2"):
        if find_spec(package) is None:
            hint = "pip install -c constraints.txt -e . brings it"
            raise ConfigError(package, None, "a package that is installed", hint)


def _check_writable(places: Places) -> None:
    if places.page.is_dir():
        raise ConfigError("out", str(places.page), "a file", "there is a directory")
    for directory in (places.page.parent, places.pictures):
        check_writable("out", directory, "out=DIR goes elsewhere")

"""What is trained for `docs/results.md`, and what is to be reached: the rows of `learning.yaml`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from benchmarks.machine import ROOT
from trainers.commands import as_value
from trainers.config import ConfigError, TrainConfig
from trainers.config.composer import composing, plain
from trainers.config.errors import did_you_mean
from trainers.config.schema import Section, number
from trainers.reporting.figures import short
from trainers.reporting.runs import NothingToReport, Run, read, settings, task

FIRST_SEED = 100  # presets are tuned on seeds below
# One thread, so that several runs fit beside each other. A page on a run can be made at any time.
COMMON = ("threads=1", "device=cpu", "report.interval_s=0")
TRAIN = ROOT / "scripts" / "train.py"


@dataclass(frozen=True)
class Row(Section):
    """A line of the list: one algorithm in one environment, a run for each seed."""

    algo: str
    env: str
    frames: int = field(metadata={"ge": 1})
    seeds: int = field(metadata={"ge": 1})
    must: float | str | None = number(None)  # a text is the name of another row: its figure
    goal: float | None = number(None)
    retuned: bool = False
    more: str | None = None

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.algo}-{self.env}-{short(self.frames)}"

    @property
    def arguments(self) -> list[str]:
        """Of `scripts/train.py`, but for the seed and the run's place."""
        more = (self.more or "").split()
        frames = f"total_frames={self.frames:_}"
        return [f"algo={self.algo}", f"env={self.env}", frames, *more, *COMMON]

    @property
    def seed_numbers(self) -> range:
        """The seeds."""
        return range(FIRST_SEED, FIRST_SEED + self.seeds)


@dataclass(frozen=True)
class Planned:
    """A row that can be trained, and what its command comes to at present."""

    row: Row
    config: TrainConfig

    def differences(self, run: Run) -> list[str]:
        """The settings in which a run is another one than the command would make now."""
        data = self.config.to_dict()
        now, then = settings(data) | {"env": task(data)}, {**run.settings, "env": run.task}
        return [key for key in dict.fromkeys([*now, *then]) if now.get(key) != then.get(key)]


@dataclass(frozen=True)
class Job:
    """One seed of a row, and where it is trained."""

    planned: Planned
    seed: int
    runs: Path

    @property
    def title(self) -> str:
        return f"{self.planned.row.name} seed {self.seed}"

    @property
    def run_dir(self) -> Path:
        return self.runs / self.planned.row.name / f"seed{self.seed}"

    @property
    def command(self) -> list[str]:
        """Starts the run, or goes on with it."""
        own = [f"seed={self.seed}", f"run_dir={as_value(self.run_dir)}", "resume=auto"]
        return [sys.executable, str(TRAIN), *self.planned.row.arguments, *own]

    def run(self) -> Run | None:
        """What there is of it; None if that is nothing."""
        try:
            return read(self.run_dir)
        except NothingToReport:
            return None


def read_list(path: Path) -> list[Planned]:
    """The rows of a list, each checked as `scripts/train.py` checks its command line.

    Raises:
        ConfigError: the list cannot be read, or a line of it is wrong.
    """
    try:
        entries = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError("--list", str(path), "a list of rows in YAML", reason) from error
    if not isinstance(entries, list) or not entries:
        raise ConfigError("--list", str(path), "a list of rows in YAML", "it is none")
    planned: dict[str, Planned] = {}
    with composing() as composer:
        for place, entry in enumerate(entries, 1):
            try:
                row = Row.from_dict(entry)
                arguments = composer.single(composer.parse(row.arguments))
                config = TrainConfig.from_dict(plain(composer.compose(arguments)))
                if row.name in planned:
                    raise ConfigError("row", row.name, "a name that no row before it has")
            except ConfigError as error:
                key = f"{path}: row {place}: {error.key}"
                raise ConfigError(key, error.given, error.allowed, error.hint) from error
            planned[row.name] = Planned(row, config)
    for place, each in enumerate(planned.values(), 1):
        _check_must(f"{path}: row {place}: must", each.row, list(planned))
    return list(planned.values())


def _check_must(key: str, row: Row, names: Sequence[str]) -> None:
    others = [name for name in names if name != row.name]
    if isinstance(row.must, str) and row.must not in others:
        allowed = "a number or the name of another row"
        raise ConfigError(key, row.must, allowed, did_you_mean(row.must, others))


def picked(rows: Sequence[Planned], names: Sequence[str]) -> list[Planned]:
    """The rows of these names, in the list's order; all, if there is no name."""
    known = [each.row.name for each in rows]
    for name in names:
        if name not in known:
            allowed = f"any of {', '.join(known)}"
            raise ConfigError("--only", name, allowed, did_you_mean(name, known))
    return [each for each in rows if not names or each.row.name in names]

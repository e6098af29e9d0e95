"""Runs as they lie on disk. A broken one is read as far as it goes; nothing in it is executed."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from trainers.config import ConfigError, TrainConfig
from trainers.config.run_dir import CONFIG_FILE
from trainers.config.schema import leaves

METRICS_FILE = "metrics.jsonl"
RETURN = "eval/episode_return"

# No part of what was learnt or how it was measured: a key, or a section and all in it.
_ASIDE = {
    *("seed", "run_dir", "resume", "resume_override", "stop_at", "max_seconds", "progress"),
    *("log", "logger", "checkpoint", "report", "eval.interval", "eval.video"),
    *("env.name", "env.id"),
}
# What makes another task of an environment, and its value where it does not.
_TASK = {"env.kwargs": {}, "env.wrappers": [], "env.max_episode_steps": None}

State = Literal["running", "finished", "failed", "unfinished"]


class NothingToReport(ValueError):
    """A directory is no run, or one that has written nothing yet; the reason."""


@dataclass(frozen=True)
class Series:
    """A metric over the lines that have it, in their order; frames never go back."""

    frames: np.ndarray
    seconds: np.ndarray  # nan where a line has none
    values: np.ndarray  # nan where it was no number


@dataclass(frozen=True)
class Run:
    """What is known of a run."""

    path: Path
    algo: str
    env: str  # the id
    task: str  # the id, with what makes another task of it
    seed: int
    settings: Mapping[str, Any]  # by dotted key: those that are not null and may make a difference
    total_frames: int
    frames: int
    seconds: float
    series: Mapping[str, Series]
    state: State
    end: str  # why it ended before its last frame; empty if it did not
    resumes: int
    problems: Sequence[str] = field(default=())

    @property
    def evaluations(self) -> Series:
        """Returns of its evaluations, one for each frame."""
        return self.series.get(RETURN, _EMPTY)

    @property
    def frames_per_s(self) -> float:
        """Median over the lines after the warm-up, without evaluations and checkpoints."""
        speed, updates = (self.series.get(n, _EMPTY) for n in ("time/frames_per_s", "updates"))
        warm = speed.values[np.isin(speed.frames, updates.frames[updates.values > 0])]
        values = warm if np.isfinite(warm).any() else speed.values
        return float(np.nanmedian(values)) if np.isfinite(values).any() else math.nan

    def score(self) -> float:
        """Mean of the last three evaluations; nan if there is none."""
        values = self.evaluations.values
        values = values[np.isfinite(values)]
        return float(values[-3:].mean()) if len(values) else math.nan


_EMPTY = Series(*(np.zeros(0) for _ in range(3)))


def find(path: Path) -> list[Path]:
    """The run directories at or below a path, none inside another."""
    found = []
    for place, below, files in os.walk(path):
        if CONFIG_FILE in files or METRICS_FILE in files:
            found.append(Path(place))
            below.clear()  # a logger may keep a config.yaml of its own in there
        below[:] = sorted(name for name in below if not name.startswith("."))
    return found


def read(path: Path, state: State | None = None) -> Run:
    """Read a run; what is broken in it is left out and named in its ``problems``.

    Args:
        path: its directory.
        state: what the process that trains in it knows of it; None finds it out from the files.

    Raises:
        NothingToReport: it has no readable configuration, or no line of metrics.
    """
    config = _config(path / CONFIG_FILE)
    lines, problems = read_lines(path / METRICS_FILE)
    if not lines:
        raise NothingToReport(f"{METRICS_FILE} holds no line yet" if not problems else problems[0])
    series, no_numbers = _series(lines)
    if no_numbers:
        problems.append(f"{METRICS_FILE}: no number in {_few(no_numbers)}")
    if gaps := _gaps(series[""].frames, _interval(config, lines)):
        problems.append(f"{METRICS_FILE}: lines are missing {_few(gaps)}")
    frames = int(lines[-1]["frames"])
    total = int(config["total_frames"])
    end, error, resumes = _log(path / "train.log", frames)
    if error is None and state == "failed":
        error = "see train.log"
    if error is not None:
        problems.append(f"it ended with an error: {error}")
    finished = end is not None or (frames >= total and RETURN in lines[-1])
    ended: State = "finished" if finished else "unfinished" if error is None else "failed"
    return Run(
        path=path,
        algo=config["algo"]["name"],
        env=config["env"]["id"],
        task=task(config),
        seed=config["seed"],
        settings=settings(config),
        total_frames=total,
        frames=frames,
        seconds=float(np.nanmax(series[""].seconds, initial=0.0)),
        series=series,
        state=state or ended,
        end=end or "",
        resumes=resumes,
        problems=problems,
    )


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a configuration may make a difference, by dotted key; what is null is left out."""
    flat = sorted(leaves(config).items())
    return {key: value for key, value in flat if value is not None and not _is_aside(key)}


def task(config: Mapping[str, Any]) -> str:
    """The environment's id, with what makes another task of it."""
    env = config["env"]
    given = {key.removeprefix("env."): usual for key, usual in _TASK.items()}
    unusual = {key: env[key] for key, usual in given.items() if env.get(key, usual) != usual}
    extra = [f"{key}={json.dumps(value)}" for key, value in unusual.items()]
    return " ".join([env["id"], *extra])


def _config(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise NothingToReport(f"it has no {CONFIG_FILE}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise NothingToReport(f"{CONFIG_FILE} is broken: {' '.join(str(error).split())}") from error
    try:  # as a resume reads it: what the version that wrote it did not know is at its default
        return TrainConfig.from_dict(data).to_dict()
    except (ConfigError, TypeError) as error:
        if _usable(data):  # of a version that knew other keys
            return data
        raise NothingToReport(f"{CONFIG_FILE} is not a run's: {error}") from error


def _usable(data: Any) -> bool:
    try:
        texts = data["algo"]["name"], data["env"]["id"]
        numbers = data["seed"], data["total_frames"]
    except (TypeError, KeyError):
        return False
    return all(isinstance(t, str) for t in texts) and all(type(n) is int for n in numbers)


def read_lines(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The lines that can be read, frames not going back, and what is wrong with the others."""
    lines: list[dict[str, Any]] = []
    broken, rewound = [], []
    try:
        with path.open("rb") as file:
            for number, text in enumerate(file, 1):
                line = _line(text)
                if line is None:
                    broken.append(f"{number}")
                    continue
                if lines and lines[-1]["frames"] > line["frames"]:
                    rewound.append(f"{number}")
                while lines and lines[-1]["frames"] > line["frames"]:
                    lines.pop()  # a resume went through these frames again
                lines.append(line)
    except FileNotFoundError:
        return [], [f"it has no {METRICS_FILE}"]
    except OSError as error:
        return [], [f"{METRICS_FILE} cannot be read: {error.strerror}"]
    problems = []
    if broken:
        problems.append(f"{METRICS_FILE}: broken and left out: {_numbered('line', broken)}")
    if rewound:
        problems.append(f"{METRICS_FILE}: frames go back at {_numbered('line', rewound)}")
    return lines, problems


def _line(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text.decode("utf-8"))
        valid = isinstance(line, dict) and 0 <= _number(line.get("frames")) < math.inf
    except (ValueError, RecursionError):
        return None
    return line if valid else None


def _number(value: Any) -> float:
    """A number that is one; anything else, null included, is nan."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value) if math.isfinite(value) else math.nan
    except OverflowError:
        return math.nan


def _series(lines: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Series], list[str]]:
    """Every metric's, and under the empty name the clock's; and which values are no numbers."""
    columns: dict[str, list[tuple[float, float, float]]] = {}
    lost: dict[str, int] = {}
    for line in lines:
        frames, seconds = float(line["frames"]), _number(line.get("seconds"))
        clock = columns.setdefault("", [])
        clock.append((frames, seconds, frames))
        for name, value in line.items():
            if name == "frames":
                continue
            number = _number(value)
            if math.isnan(number):
                lost[name] = lost.get(name, 0) + 1
            rows = columns.setdefault(name, [])
            if name.startswith("eval/") and rows and rows[-1][0] == frames:
                rows.pop()  # the same policy once more: a run that was made longer
            rows.append((frames, seconds, number))
    series = {name: Series(*np.array(rows).T) for name, rows in columns.items()}
    return series, [f"{name} ({count} line{'s' * (count > 1)})" for name, count in lost.items()]


def _interval(config: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> float:
    """How often lines were to be written; 0 if that is not known."""
    flat, names = leaves(config), ["log.interval"]
    if all(RETURN in line for line in lines):  # a copy may have kept no others
        names.append("eval.interval")
    return max(flat.get(name) or 0 for name in names)


def _gaps(frames: np.ndarray, interval: float) -> list[str]:
    """Where lines are missing: a step at least twice its neighbours and the interval.

    From one line to the next it is less than the interval and a rollout, or it is a rollout.
    """
    if interval == 0:
        return []
    steps = np.diff(frames, prepend=0.0)
    before, after = np.append(0.0, steps[:-1]), np.append(steps[1:], 0.0)
    longest = np.maximum(interval, np.maximum(before, after))
    gaps = np.flatnonzero(steps >= 2 * longest) if len(steps) > 2 else []
    starts = np.concatenate([[0.0], frames])
    return [f"between frames {starts[i]:,.0f} and {frames[i]:,.0f}" for i in gaps]


def _numbered(noun: str, numbers: Sequence[str]) -> str:
    return f"{noun}{'s' * (len(numbers) > 1)} {_few(numbers)}"


def _few(texts: Sequence[str], limit: int = 5) -> str:
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more


def _log(path: Path, frames: int) -> tuple[str | None, str | None, int]:
    """Why the run ended for good with its last line, the error it ended with, and its resumes.

    None where it has not ended so.
    """
    try:
        text = path.read_text("utf-8", errors="replace")
    except OSError:
        return None, None, 0
    resumes = len(re.findall(r" INFO resumed from ", text))
    _, failed, since = text.rpartition(" DEBUG the run ended with an error")
    error = None
    if failed and "; everything goes to " not in since:  # else it was started again
        said = re.search(r"^\d.* ERROR (.*)", since, re.MULTILINE)
        error = said[1] if said else "see train.log"
    ends = re.findall(r" INFO ended at frame (\d+), update \d+(?: \((.*)\))?(; metrics in )?", text)
    if ends and ends[-1][2] and int(ends[-1][0]) == frames:
        return ends[-1][1], error, resumes
    return None, error, resumes


def _is_aside(key: str) -> bool:
    return any(key == each or key.startswith(f"{each}.") for each in (*_ASIDE, *_TASK))

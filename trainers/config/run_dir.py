"""Where a run lives: a directory of its own, or one that holds the run to go on with."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from trainers.config.errors import ConfigError
from trainers.config.train import TrainConfig

CONFIG_FILE = "config.yaml"


def locate(run_dir: str | None, resume: str | None) -> tuple[Path | None, Path | None]:
    """The directory of the run (None: a new one) and what to resume from (None: nothing)."""
    given = Path(run_dir) if run_dir else None
    if given and not _holds_run(given) and any(given.glob("checkpoints/[0-9]*")):
        hint = "bring it back, or take another directory"
        raise ConfigError("run_dir", run_dir, f"a run with its {CONFIG_FILE}, or none", hint)
    if resume == "auto":
        if given is None:
            raise ConfigError("resume", resume, "run_dir=DIR along with it")
        return given, given if _holds_run(given) else None
    if resume is not None:
        return _resumed(Path(resume), given)
    if given and _holds_run(given):
        hint = f"resume={given} goes on with it"
        raise ConfigError("run_dir", run_dir, "a directory that holds no run yet", hint)
    return given, None


def _resumed(source: Path, given: Path | None) -> tuple[Path, Path]:
    in_checkpoints = source.parent.name == "checkpoints"
    run_dir = source.parent.parent if in_checkpoints and not _holds_run(source) else source
    if not source.is_dir() or not _holds_run(run_dir):
        allowed = "a run directory or a checkpoint in it"
        raise ConfigError("resume", str(source), allowed, why_no_run(source))
    if given and given.resolve() != run_dir.resolve():
        hint = "a run goes on in place: leave run_dir out"
        raise ConfigError("run_dir", str(given), f"the run to resume, {run_dir}", hint)
    return run_dir, source


def why_no_run(path: Path) -> str:
    """What is there instead."""
    if path.is_dir():
        return f"it has no {CONFIG_FILE}"
    return "there is a file" if path.exists() else "there is no such directory"


def _holds_run(path: Path) -> bool:
    return (path / CONFIG_FILE).is_file()


@contextmanager
def claimed(run_dir: Path | None, config: TrainConfig, label: str) -> Iterator[Path]:
    """Make `run_dir`, or a new one if it is None; taken back at the end if nothing is in it.

    A new directory is made by this process or not at all, so runs that start in the same second
    never share one; one that is given is locked, so that no second process writes into it.
    """
    made: list[Path] = []
    try:
        place = _make(run_dir, made) if run_dir else _make_new(config, label, made)
        with _locked(place):
            yield place
    finally:
        for path in made:
            if not any(path.iterdir()):
                path.rmdir()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the directory's lock, which the system takes back from a process that dies."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        hint = "another process is training in it"
        raise ConfigError("run_dir", str(path), "a directory of its own", hint) from None
    except OSError:
        pass  # a file system without locks
    try:
        yield
    finally:
        os.close(descriptor)


def _make_new(config: TrainConfig, label: str, made: list[Path]) -> Path:
    algo_env = _as_file_name(f"{config.algo.name}-{config.env.name}")
    name = _as_file_name(f"{datetime.now():%Y%m%d-%H%M%S}-seed{config.seed}{label}")
    parent, number = Path("runs") / algo_env, 1
    while True:
        path = parent / (name if number == 1 else f"{name}-{number}")
        try:
            return _make(path, made, exist_ok=False)
        except FileExistsError:
            number += 1


def _make(path: Path, made: list[Path], exist_ok: bool = True) -> Path:
    missing = [place for place in (path, *path.parents) if not place.exists()]
    try:
        path.mkdir(parents=True, exist_ok=exist_ok)
    except FileExistsError:
        if not exist_ok:
            raise
        raise ConfigError("run_dir", str(path), "a directory", "there is a file") from None
    except OSError as error:
        allowed = "a directory that can be made"
        raise ConfigError("run_dir", str(path), allowed, error.strerror) from error
    made.extend(missing)
    return path


def _as_file_name(text: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", text)[:120]

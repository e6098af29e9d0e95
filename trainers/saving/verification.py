"""Does a run that is killed and resumed equal one that is not? Tried out on the user's own run."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainers import processes
from trainers.config import ConfigError
from trainers.config.cli import preflight
from trainers.hooks.checkpointing import checkpoints

TRAIN = Path(__file__).resolve().parents[2] / "scripts" / "train.py"
_POLL_S = 0.01
_SHARE = 10  # of a run between two of its checkpoints, unless the command line says otherwise
_MISSES = 2  # runs that may come to their end before the first kill


@dataclass(frozen=True)
class Straight:
    """A run that was left alone, and the seconds that it took."""

    run_dir: Path
    start_up_s: float
    training_s: float


def checked(overrides: Sequence[str]) -> list[str]:
    """The overrides of the runs to come.

    Raises:
        ConfigError: they do not make a run, or leave no room for where it goes and is resumed.
    """
    keys = [override.lstrip("+~").partition("=")[0] for override in overrides]
    for key, override in zip(keys, overrides, strict=True):
        if key in ("run_dir", "resume", "resume_override", "-m", "--multirun"):
            raise ConfigError(key, override, "not to be given: both runs are made here")
    plan = preflight(list(overrides))
    if len(plan.configs) != 1:
        raise ConfigError("command line", list(overrides), "a single run")
    (config,) = plan.configs
    if "checkpoint.interval" in keys:
        if config.checkpoint.interval == 0:
            allowed = "above 0: a run without checkpoints cannot go on"
            raise ConfigError("checkpoint.interval", 0, allowed)
        return list(overrides)
    frames = min(config.total_frames, config.stop_at or config.total_frames)
    return [*overrides, f"checkpoint.interval={max(1, frames // _SHARE)}"]


def run_straight(overrides: Sequence[str], run_dir: Path) -> Straight:
    """Train without interruption.

    Raises:
        RuntimeError: it failed.
    """
    begin = time.monotonic()
    run = _Run(overrides, run_dir)
    run.await_training()
    started = time.monotonic()
    run.finish()
    return Straight(run_dir, started - begin, time.monotonic() - started)


def run_killed(
    overrides: Sequence[str], run_dir: Path, straight: Straight, kills: int, seed: int
) -> list[str]:
    """Train with SIGKILLs at random instants, and to the end; where each of them struck.

    There are fewer than ``kills`` if the run is at its end before.

    Raises:
        RuntimeError: it failed in another way, or was never killed and continued from a checkpoint:
            it ended before.
    """
    dice, struck, missed = random.Random(seed), [], 0
    frames = _saved_frames(straight.run_dir)
    while len(struck) < kills:
        # On average the kills fall evenly on what is left to train. They are counted from what is
        # saved, not from the start: the machine may be faster or slower than it was.
        run = _Run(overrides, run_dir)
        saved = _saved_frames(run_dir)
        mark = saved + dice.uniform(0.0, 2.0 * (frames - saved) / (kills - len(struck) + 1))
        run.await_saved(min(mark, 0.8 * frames))
        if run.outlives(dice.uniform(0.0, straight.training_s / _SHARE / 4**missed)):
            run.kill()
        else:
            run.finish()
        if _saved_frames(run_dir) >= frames:  # it was at its end before
            missed += 1
            if struck or missed > _MISSES:
                break
            shutil.rmtree(run_dir)  # the machine has become faster: once more, with less patience
            continue
        struck.append(_where(run_dir))
    _Run(overrides, run_dir).finish()
    if not struck or "resumed from" not in (run_dir / "train.log").read_text():
        why = "killed and continued from a checkpoint: let it train for longer"
        raise RuntimeError(f"the run was never {why}")
    return struck


class _Run:
    """`scripts/train.py` in a process of its own, begun or gone on with."""

    def __init__(self, overrides: Sequence[str], run_dir: Path) -> None:
        self.run_dir = run_dir
        log = run_dir / "train.log"
        self._log_bytes = log.stat().st_size if log.exists() else 0
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115  # for as long as it runs
        command = [sys.executable, str(TRAIN), *overrides, f"run_dir={run_dir}", "resume=auto"]
        self._process = processes.start(command, stdout=subprocess.DEVNULL, stderr=self._said)

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def await_training(self) -> None:
        """Wait until it has said what it begins with."""
        log = self.run_dir / "train.log"
        while self.is_alive and (log.stat().st_size if log.exists() else 0) <= self._log_bytes:
            time.sleep(_POLL_S)

    def await_saved(self, frames: float) -> None:
        """Wait until it has saved a state after so many frames, or ended."""
        while self.is_alive and _saved_frames(self.run_dir) < frames:
            time.sleep(_POLL_S)

    def outlives(self, seconds: float) -> bool:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    def kill(self) -> None:
        processes.end(self._process)
        self._process.wait()
        self._said.close()

    def finish(self) -> None:
        code = self._process.wait()
        self._said.seek(0)
        said = self._said.read()
        self._said.close()
        if code != 0:
            raise RuntimeError(f"{self.run_dir} ended with exit code {code}:\n{said}")


def _saved_frames(run_dir: Path) -> int:
    saved = checkpoints(run_dir / "checkpoints")
    return int(saved[0].name.partition("-")[0]) if saved else 0


def _where(run_dir: Path) -> str:
    """What a run had saved when it was killed."""
    saved = checkpoints(run_dir / "checkpoints")
    after = f"after checkpoint {saved[0].name}" if saved else "before its first checkpoint"
    saving = any((run_dir / "checkpoints").glob(".*.partial"))
    return f"{after}, while it was saving the next" if saving else after

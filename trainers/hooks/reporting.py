"""A page on the run that can be opened at any time."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tensordict import TensorDictBase

from trainers.trainer import Trainer

logger = logging.getLogger("trainers")

PACKAGES = Path(__file__).resolve().parents[2]
PROGRAM = ("-P", "-m", "trainers.reporting")
LAST_WAIT_S = 20.0  # for the page that is made when the run ends


class Report:
    """Has ``run_dir/report.html`` made anew every ``interval_s`` seconds, by another process.

    Register the object at ``post_steps`` and, last, :meth:`finish` at ``shutdown``. The training
    waits for nothing before the run has ended. There is one such process at a time; what goes wrong
    with it is said once, and harms nothing.
    """

    name = "report"

    def __init__(self, run_dir: Path, interval_s: float) -> None:
        self.run_dir = run_dir.resolve()
        self.interval_s = interval_s
        self._due = time.monotonic() + interval_s
        self._process: subprocess.Popen[bytes] | None = None
        self._reported_bytes = 0
        self._warned = False

    def __call__(self, trainer: Trainer, rollout: TensorDictBase) -> None:
        if self._process is not None:
            if self._process.poll() is not None:
                self._reap(self._process)
        elif time.monotonic() >= self._due:
            with trainer.stopwatch.paused():
                self._start("running")

    def finish(self, trainer: Trainer) -> None:
        """Show how the run has ended; waits for it, but not for long."""
        with trainer.stopwatch.paused():
            if self._process is not None:
                self._end(self._process)  # it shows the run as it was
            self._reported_bytes = 0
            self._start(_state(trainer))
            if self._process is None:
                return
            try:
                self._process.wait(LAST_WAIT_S)
                self._reap(self._process)
            except subprocess.TimeoutExpired:
                self._warn(f"it takes longer than {LAST_WAIT_S:g} seconds")
            finally:
                if self._process is not None:
                    self._end(self._process)

    def _start(self, state: str) -> None:
        """Start a process, unless nothing was written since the last one."""
        self._due = time.monotonic() + self.interval_s
        # Of the packages this process has, wherever it was started from.
        path = os.pathsep.join([str(PACKAGES), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
        command = [sys.executable, *PROGRAM, str(self.run_dir), state, f"{self.interval_s}"]
        metrics = self.run_dir / "metrics.jsonl"
        try:
            written = metrics.stat().st_size if metrics.exists() else 0
            if written == self._reported_bytes:
                return
            self._process = subprocess.Popen(
                command,
                env=os.environ | {"PYTHONPATH": path.rstrip(os.pathsep)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                process_group=0,  # Ctrl-C is for the training
            )
            self._reported_bytes = written
        except (OSError, subprocess.SubprocessError) as error:
            self._warn(str(error))

    def _reap(self, process: subprocess.Popen[bytes]) -> None:
        """Take leave of a process that has ended."""
        assert process.stderr is not None
        with process.stderr as pipe:
            said = pipe.read().decode(errors="replace").split("\n")
        if process.returncode != 0:
            last = next((line for line in reversed(said) if line), "")
            self._warn(last or f"exit code {process.returncode}")
        self._process = None

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """End a process that is not wanted any more."""
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
        with suppress(OSError):
            (self.run_dir / f".report.html.{process.pid}").unlink()
        self._process = None

    def _warn(self, why: str) -> None:
        if not self._warned:
            page = self.run_dir / "report.html"
            logger.warning("%s is not made, training goes on without it: %s", page, why)
        self._warned = True


def _state(trainer: Trainer) -> str:
    """How a run has ended."""
    if trainer.interrupted and trainer.stop_reason is None:  # nobody asked it to: an error did
        return "failed"
    return "finished" if trainer.complete and not trainer.interrupted else "unfinished"

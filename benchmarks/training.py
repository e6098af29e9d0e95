"""Runs beside each other, each by `scripts/train.py` in a process of its own, stopped together."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.learning import Job
from benchmarks.machine import ROOT, commit, cpu
from trainers import processes
from trainers.config.run_dir import CONFIG_FILE
from trainers.disk import write_whole
from trainers.reporting.page import duration, number
from trainers.signals import SAME_SIGNAL_SECONDS

PACKAGES = ("torch", "torchrl", "tensordict", "gymnasium", "mujoco", "numpy")
FINISHED, STOPPED = 0, 75
SIGNALLED = 128  # and the number of the signal
POLL_S = 0.2
# What a session has to say.
SESSION = {
    **{"date": str, "from_frame": int, "commit": str},
    **{"cpu": str, "cores": int, "at_once": int},
    "versions": dict,
}


@dataclass
class _Child:
    job: Job
    process: subprocess.Popen[bytes]
    told: int = 0  # signals that were passed on


@dataclass(frozen=True)
class Outcome:
    """What became of the jobs."""

    failed: int  # so many
    stopped: bool  # by a signal, before all of them were finished


def surroundings(at_once: int) -> dict[str, Any]:
    """What a run depends on besides its settings, and what its speed does."""
    return {
        "commit": commit(),
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "at_once": at_once,
        "versions": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
    }


def train(
    jobs: Sequence[Job],
    at_once: int,
    say: Callable[[str], None],
    ended: Callable[[Job], object] = lambda job: None,
) -> Outcome:
    """Train all of them, so many at a time; a signal stops them with a checkpoint.

    Args:
        jobs: in their order; those that are finished already are passed over.
        at_once: how many.
        say: is told what happens.
        ended: called with each that has come to an end, whatever end; what it raises stops all,
            with checkpoints.
    """
    waiting = deque(job for job in jobs if _to_do(job))
    children: list[_Child] = []
    ends: list[str] = []
    with _signals() as asked:
        try:
            while children or (waiting and not asked):
                while waiting and len(children) < at_once and not asked:
                    job = waiting.popleft()
                    try:
                        process = _start(job, at_once)
                    except OSError as error:  # a full disk, perhaps: the others go on
                        ends.append(f"FAILED: {error}")
                        say(f"{job.title}: {ends[-1]}")
                        continue
                    children.append(_Child(job, process))
                    say(f"{job.title}: started")
                for child in children:
                    _pass_on(child, len(asked))
                for child in [child for child in children if child.process.poll() is not None]:
                    children.remove(child)
                    ends.append(_how(child, len(asked)))
                    say(f"{child.job.title}: {ends[-1]}{_standing(child.job)}")
                    ended(child.job)
                time.sleep(POLL_S)
        finally:  # only after an error: there are none left otherwise
            asked.append(time.monotonic())  # as after a signal
            while any(child.process.poll() is None for child in children):  # it holds its run
                for child in children:
                    _pass_on(child, len(asked))
                time.sleep(POLL_S)
    failed = sum(each.startswith("FAILED") for each in ends)
    return Outcome(failed, "stopped" in ends or bool(waiting))


def _to_do(job: Job) -> bool:
    run = job.run()
    return run is None or run.state != "finished"


def _start(job: Job, at_once: int) -> subprocess.Popen[bytes]:
    job.run_dir.parent.mkdir(parents=True, exist_ok=True)
    _note(job, surroundings(at_once))
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with log_of(job).open("ab") as log:
        return processes.start(
            job.command,
            by=signal.SIGTERM,  # it stops with a checkpoint
            env=os.environ | {"PYTHONPATH": path},  # the code whose commit was noted
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def _note(job: Job, about: dict[str, Any]) -> None:
    """Add a session to the run's; one that began here as well got nowhere, and goes."""
    run = job.run()
    frames = 0 if run is None else run.frames
    begun = (job.run_dir / CONFIG_FILE).exists()
    before = [each for each in sessions(job) if begun and each["from_frame"] < frames]
    now = {"date": f"{datetime.now():%Y-%m-%d %H:%M}", "from_frame": frames, **about}
    text = json.dumps([*before, now], indent=1) + "\n"
    write_whole(sessions_file(job), text.encode())


def sessions_file(job: Job) -> Path:
    """Where it is noted which code trained a run, and on which machine; beside the run."""
    return job.run_dir.with_suffix(".json")


def log_of(job: Job) -> Path:
    """What the run says."""
    return job.run_dir.with_suffix(".log")


def sessions(job: Job) -> list[dict[str, Any]]:
    """The processes that a run was trained in, in their order; what is no session is left out."""
    try:
        noted = json.loads(sessions_file(job).read_text())
    except (OSError, ValueError, RecursionError):
        return []
    return [each for each in noted if _is_session(each)] if isinstance(noted, list) else []


def _is_session(noted: Any) -> bool:
    return isinstance(noted, dict) and all(
        isinstance(noted.get(key), kind) for key, kind in SESSION.items()
    )


def _pass_on(child: _Child, asked: int) -> None:
    if child.told < asked:  # one at a time: two at once would be one
        child.told += 1
        with suppress(ProcessLookupError):
            child.process.send_signal(signal.SIGTERM)


def _how(child: _Child, asked: int) -> str:
    """How it ended after so many signals, and if that is a failure what it said last."""
    code = child.process.returncode
    if code == FINISHED:
        return "finished"
    # By a signal before its training began. After a second one it ends without a checkpoint.
    if code == STOPPED or (asked and not 0 <= code <= SIGNALLED) or asked > 1:
        return "stopped"
    said = log_of(child.job).read_text("utf-8", errors="replace").split("\n")
    last = next((line.strip() for line in reversed(said) if line.strip()), "it said nothing")
    return f"FAILED with exit code {code}: {last}"


def _standing(job: Job) -> str:
    run = job.run()
    if run is None:
        return ""
    score = f"return {number(run.score())}"
    return f" at frame {run.frames:,}, {score}, {duration(run.seconds)}"


@contextmanager
def _signals() -> Iterator[list[float]]:
    """The times at which SIGINT or SIGTERM arrived; one that make passes on as well is one."""
    asked: list[float] = []

    def note(number: int, frame: Any) -> None:
        now = time.monotonic()
        if asked and now - asked[-1] < 2 * SAME_SIGNAL_SECONDS:
            return
        asked.append(now)
        if len(asked) == 1:
            name = signal.Signals(number).name
            text = f"\n{name}: stopping the runs with checkpoints; once more ends them at once\n"
            with suppress(OSError):  # not print: the signal may come while something is printed
                os.write(2, text.encode())

    previous = {each: signal.signal(each, note) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)

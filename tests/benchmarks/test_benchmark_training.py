"""Runs in processes of their own; programs of a few lines stand for the training."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.made_up_runs import make_run

from benchmarks import training
from benchmarks.learning import Job, read_list
from benchmarks.machine import ROOT
from trainers.config import save_config

LIST = "- {algo: ppo, env: CartPole, frames: 1000, seeds: 4}\n"
Patch = pytest.MonkeyPatch

TRAINS = """
import os, sys, time
def note(text):
    with open("log", "a") as log:
        log.write(text + "\\n")
note("begin"); time.sleep(0.3); note("end")
"""
# Stops at the first signal, or if it is told so at the second one.
STOPS = """
import signal, sys, time
codes = [int(code) for code in sys.argv[1:]]
def stop(*_):
    code = codes.pop(0)
    if code:
        sys.exit(code)
signal.signal(signal.SIGTERM, stop)
open("ready", "w").close()
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def jobs() -> list[Job]:
    Path("list.yaml").write_text(LIST)
    (planned,) = read_list(Path("list.yaml"))
    return [Job(planned, seed, Path("runs")) for seed in planned.row.seed_numbers]


def runs(monkeypatch: Patch, program: str, *arguments: str) -> None:
    """Let this stand for the training."""
    command = property(lambda job: [sys.executable, "-c", program, *arguments])
    monkeypatch.setattr(Job, "command", command)


def finished(job: Job) -> None:
    make_run(job.run_dir, algo="ppo", env="CartPole-v1")


def test_so_many_at_a_time_and_each_once(jobs: list[Job], monkeypatch: Patch) -> None:
    runs(monkeypatch, TRAINS)
    finished(jobs[1])
    said: list[str] = []
    ended: list[int] = []
    outcome = training.train(jobs, 2, said.append, lambda job: ended.append(job.seed))
    assert outcome == training.Outcome(failed=0, stopped=False)
    assert sorted(ended) == [100, 102, 103]
    assert [each for each in said if "started" in each] == [
        f"ppo-CartPole-1k seed {seed}: started" for seed in (100, 102, 103)
    ]
    there = most = 0
    for line in Path("log").read_text().split():
        there += 1 if line == "begin" else -1
        most = max(most, there)
    assert (there, most) == (0, 2)


def test_a_failure_is_said_and_the_others_go_on(jobs: list[Job], monkeypatch: Patch) -> None:
    runs(monkeypatch, "import sys; print('it rains', file=sys.stderr); print(); sys.exit(3)")
    said: list[str] = []
    outcome = training.train(jobs[:2], 1, said.append)
    assert outcome == training.Outcome(failed=2, stopped=False)
    assert said[1::2] == [
        f"ppo-CartPole-1k seed {seed}: FAILED with exit code 3: it rains" for seed in (100, 101)
    ]


def test_a_run_that_cannot_begin_is_a_failure(jobs: list[Job], monkeypatch: Patch) -> None:
    runs(monkeypatch, "")
    training.log_of(jobs[0]).mkdir(parents=True)
    said: list[str] = []
    outcome = training.train(jobs[:2], 1, said.append)
    assert outcome == training.Outcome(failed=1, stopped=False)
    assert said[0].startswith("ppo-CartPole-1k seed 100: FAILED: [Errno 21] Is a directory: 'runs/")
    assert said[1:] == [f"ppo-CartPole-1k seed 101: {how}" for how in ("started", "finished")]


def test_after_an_error_no_run_is_left(jobs: list[Job], monkeypatch: Patch) -> None:
    slow = STOPS.replace("    code =", "    time.sleep(1); open('over', 'w'); code =")
    runs(monkeypatch, slow, "75")

    def say(text: str) -> None:
        wait_for(Path("ready"))
        raise ValueError("said too much")

    with pytest.raises(ValueError, match="said too much"):
        training.train(jobs, 1, say)
    assert Path("over").exists()


def test_a_signal_stops_all_and_starts_none(jobs: list[Job], monkeypatch: Patch) -> None:
    runs(monkeypatch, STOPS, "75")
    before = signal.getsignal(signal.SIGINT)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if text.endswith("started"):
            wait_for(Path("ready"))
            os.kill(os.getpid(), signal.SIGINT)

    outcome = training.train(jobs, 1, say)
    assert outcome == training.Outcome(failed=0, stopped=True)
    assert said == [f"ppo-CartPole-1k seed 100: {how}" for how in ("started", "stopped")]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_signal_ends_them_at_once(jobs: list[Job], monkeypatch: Patch) -> None:
    runs(monkeypatch, STOPS, "0", "1")
    monkeypatch.setattr(training, "SAME_SIGNAL_SECONDS", 0.1)

    def say(text: str) -> None:
        if text.endswith("started"):
            wait_for(Path("ready"))
            for pause in (0.05, 0.4, 0.0):  # the second arrives with the first
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(pause)

    assert training.train(jobs[:1], 1, say) == training.Outcome(failed=0, stopped=True)


def wait_for(path: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"no {path}"
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_runs_end_with_a_parent_that_is_killed(jobs: list[Job]) -> None:
    parent = f"""
from pathlib import Path
from benchmarks import training
from benchmarks.learning import Job, read_list
STOPS = {STOPS.replace("sys.exit(code)", "open('stopped', 'w').close(), sys.exit(code)")!r}
Job.command = property(lambda job: [{sys.executable!r}, "-c", STOPS, "75"])
(planned,) = read_list(Path("list.yaml"))
training.train([Job(planned, 100, Path("runs"))], 1, print)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", parent], env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    try:
        wait_for(Path("ready"))
    finally:
        process.kill()
        process.wait()
    wait_for(Path("stopped"))


def test_sessions_are_noted_beside_the_run(jobs: list[Job]) -> None:
    job = jobs[0]
    job.run_dir.parent.mkdir(parents=True)

    def noted(commit: str) -> list[Any]:
        training._note(job, training.surroundings(1) | {"commit": commit})
        written = json.loads(Path("runs/ppo-CartPole-1k/seed100.json").read_text())
        assert training.sessions(job) == written
        return [(each["commit"], each["from_frame"]) for each in written]

    assert noted("a") == [("a", 0)]
    assert noted("b") == [("b", 0)]  # a came to nothing
    make_run(job.run_dir, [1.0, 2.0], every=100, total_frames=1000)
    save_config(job.planned.config, job.run_dir / "config.yaml")
    assert noted("c") == [("b", 0), ("c", 200)]
    assert noted("d") == [("b", 0), ("d", 200)]  # c did not get on
    (job.run_dir / "config.yaml").unlink()
    (job.run_dir / "metrics.jsonl").unlink()
    assert noted("e") == [("e", 0)]  # the run was taken away


@pytest.mark.parametrize("noted", ['{"a": 1}', '[{"a": 1}]', "[1, []]", "[{}]", "3", "[" * 9999])
def test_what_is_no_session_is_left_out(jobs: list[Job], noted: str) -> None:
    job = jobs[0]
    make_run(job.run_dir, [1.0], every=100, total_frames=1000)
    training.sessions_file(job).write_text(noted)
    assert training.sessions(job) == []
    training._note(job, training.surroundings(2))
    (session,) = training.sessions(job)
    assert (session["from_frame"], session["at_once"]) == (100, 2)


def test_what_a_run_depends_on_is_noted() -> None:
    about = training.surroundings(3)
    assert about["at_once"] == 3
    assert set(about["versions"]) == {"python", *training.PACKAGES}

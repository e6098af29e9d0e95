"""Processes that do not outlive the one that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from support.processes import appears, left, runs

from trainers import processes

ROOT = Path(__file__).resolve().parents[1]
SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
# Says who it and its child are; both sleep.
FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(os.getpid(), child.pid, flush=True)
time.sleep(60)
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


def test_what_a_program_has_said() -> None:
    program = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    done = processes.run([sys.executable, "-c", program])
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_one_that_takes_too_long_is_killed_with_all_that_it_has_started() -> None:
    with pytest.raises(subprocess.TimeoutExpired) as late:
        processes.run([sys.executable, "-c", FAMILY], timeout_s=5.0)
    pids = [int(pid) for pid in str(late.value.output).split()]
    assert len(pids) == 2
    assert not left(pids)


def test_one_is_ended_by_what_interrupts_the_waiting() -> None:
    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    started: list[Any] = []
    start = processes.start
    try:
        with pytest.MonkeyPatch.context() as patch:

            def noted(*arguments: Any, **given: Any) -> Any:
                started.append(start(*arguments, **given))
                signal.setitimer(signal.ITIMER_REAL, 0.2)
                return started[-1]

            patch.setattr(processes, "start", noted)
            with pytest.raises(KeyboardInterrupt):
                processes.run(SLEEP)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    assert started[0].returncode == -signal.SIGKILL


@linux
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, "exit"])
def test_none_outlives_the_process_that_started_it(how: Any, tmp_path: Path) -> None:
    end = "sys.exit(0)" if how == "exit" else "time.sleep(60)"
    parent = f"""
import sys, time
from pathlib import Path
from trainers import processes
child = processes.start({SLEEP!r})
Path("pid").write_text(str(child.pid))
{end}
"""
    process = subprocess.Popen(
        [sys.executable, "-c", parent], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    try:
        pid = int(appears(tmp_path / "pid"))
        if how != "exit":
            assert runs(pid)
            process.send_signal(how)
        process.wait(20)
    finally:
        process.kill()
        process.wait()
    assert not left([pid])


def test_one_outlives_the_thread_that_started_it() -> None:
    """The system knows parents by their threads."""
    started: list[Any] = []
    thread = threading.Thread(target=lambda: started.append(processes.start(SLEEP)))
    thread.start()
    thread.join()
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            started[0].wait(0.5)
    finally:
        processes.end(started[0])
    assert started[0].wait(20) == -signal.SIGKILL


def test_what_fails_in_another_thread_is_raised_in_this_one() -> None:
    raised: list[Exception] = []

    def start() -> None:
        try:
            processes.start(["/no/such/program"])
        except OSError as error:
            raised.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join(20)
    assert isinstance(raised[0], FileNotFoundError)


def test_a_forked_process_starts_others_too() -> None:
    """It has not the threads of the one it was forked from."""
    thread = threading.Thread(target=lambda: processes.run([sys.executable, "-c", ""]))
    thread.start()
    thread.join()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            done: list[Any] = []
            inner = threading.Thread(
                target=lambda: done.append(processes.run([sys.executable, "-c", ""]))
            )
            inner.start()
            inner.join(20)
            code = done[0].returncode
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

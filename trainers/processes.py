"""Processes that do not outlive the one that started them, however that one ends."""

from __future__ import annotations

import atexit
import ctypes
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

_PR_SET_PDEATHSIG = 1
# Loaded here: between a fork and an exec nothing may be imported.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def end_with(parent: int, by: signal.Signals = signal.SIGKILL) -> None:
    """In a new process: be sent ``by`` when ``parent``, which has started it, dies.

    On Linux the system sees to that, even if this process hangs; elsewhere nothing does. Linux goes
    by the thread that has started the process: see :func:`in_lasting_thread`.
    """
    if _prctl is None:
        return
    _prctl(_PR_SET_PDEATHSIG, by)
    if os.getppid() != parent:  # it has died before this was said
        os.kill(os.getpid(), by)


def start(
    command: Sequence[str], by: signal.Signals = signal.SIGKILL, **given: Any
) -> subprocess.Popen[Any]:
    """A program in a group of its own, which is sent ``by`` when this process ends.

    Args:
        command: the program and its arguments.
        by: to the program alone if this process is killed, to its whole group otherwise.
        given: what else ``subprocess.Popen`` takes.
    """
    process = in_lasting_thread(
        partial(
            subprocess.Popen,
            command,
            process_group=0,  # Ctrl-C reaches this process alone, which decides
            preexec_fn=partial(end_with, os.getpid(), by),
            **given,
        )
    )
    atexit.register(end, process, by)
    return process


def end(process: subprocess.Popen[Any], by: signal.Signals = signal.SIGKILL) -> None:
    """Send ``by`` to what :func:`start` has started, with its group, if it is still there."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, by)


def run(
    command: Sequence[str], timeout_s: float | None = None, **given: Any
) -> subprocess.CompletedProcess[str]:
    """A program from its beginning to its end, and what it has said.

    Args:
        command: the program and its arguments.
        timeout_s: it is killed after so many seconds; None waits for it.
        given: what else ``subprocess.Popen`` takes.

    Raises:
        subprocess.TimeoutExpired: it took longer; with what it has said until then.
    """
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with start(command, text=True, **pipes, **given) as process:
        try:
            said = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as late:
            end(process)
            late.output, late.stderr = process.communicate()
            raise
        finally:  # whatever interrupts this process
            end(process)
            process.wait()
    return subprocess.CompletedProcess(command, process.returncode, *said)


def in_lasting_thread(make: Callable[[], Any]) -> Any:
    """What ``make``, which starts a process, returns; called in a thread that stays to the end.

    Where Linux is asked to end a process with its parent, it means the parent's thread: a process
    that was started from a thread which ends would be killed although its parent lives.
    """
    if threading.current_thread() is threading.main_thread():
        return make()
    return _lasting_thread().call(make)


class _LastingThread:
    """Makes calls, one at a time, for as long as this process is there."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        # A daemon: Python ends it after every other thread, when it is about to exit itself.
        threading.Thread(target=self._work, name="processes", daemon=True).start()

    def call(self, make: Callable[[], Any]) -> Any:
        """``make()``, or what it raises."""
        done: Future[Any] = Future()
        self._calls.put((make, done))
        return done.result()

    def _work(self) -> None:
        while True:
            make, done = self._calls.get()
            try:
                done.set_result(make())
            except BaseException as error:
                done.set_exception(error)
            del make, done  # else they would live on until the next call


_threads: list[_LastingThread] = []


def _lasting_thread() -> _LastingThread:
    if not _threads:  # were there two at a time, the second one would only idle
        _threads.append(_LastingThread())
    return _threads[0]


# A forked process has the list, but not the thread.
os.register_at_fork(after_in_child=_threads.clear)

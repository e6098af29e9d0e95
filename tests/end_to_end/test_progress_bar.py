"""The progress bar of a run: on a terminal, and nowhere else."""

from __future__ import annotations

import os
import pty
import re
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

import pytest
from running import TINY, train

RUN = (*TINY, "run_dir=run")


@contextmanager
def terminal(patch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """A pseudo terminal as stderr; what is shown on it."""
    resource_tracker.ensure_running()  # else one that begins now keeps the terminal open
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 120))
    shown = bytearray()

    def read() -> None:
        while True:
            try:
                shown.extend(os.read(master, 65536))
            except OSError:  # the other side is closed
                return

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(slave, "w") as stream, patch.context() as context:
        context.setattr(sys, "stderr", stream)
        yield lambda: shown.decode()
    reader.join()
    os.close(master)


def test_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as shown:
        assert train(*RUN, "stop_at=110") == 0
    bars = [text for text in re.split(r"[\r\n]+", shown()) if "%|" in text]
    assert "0/110" in bars[0]
    assert "110/110" in bars[-1]
    assert re.search(r"\d frames/s", bars[-1])
    assert re.search(r"\[\d\d:\d\d<\d\d:\d\d", bars[-1])  # time passed and left
    assert re.search(r"return=-\d+", bars[-1])
    assert re.search(r"loss=\d+", bars[-1])
    with terminal(monkeypatch) as shown:
        assert train("resume=run") == 0
    bars = [text for text in re.split(r"[\r\n]+", shown()) if "%|" in text]
    assert "110/160" in bars[0]
    assert "160/160" in bars[-1]


def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as shown:
        assert train(*RUN, "total_frames=50", "progress=false") == 0
    assert "ended at frame 50" in shown()
    assert "%|" not in shown()


def test_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    assert train(*RUN, "total_frames=50", "progress=true") == 0
    said = capfd.readouterr()
    assert said.out == ""
    starts = [line.split()[0] for line in said.err.splitlines()]
    assert starts[:-1] == ["sac", "the", "ended", "best"]  # last comes how to look at it

"""The progress bar."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest
from support.doubles import Lines, stub
from tensordict import TensorDict

from trainers.hooks import ProgressBar, WriteMetrics


class Terminal(io.StringIO):
    """What tqdm takes for one."""

    def isatty(self) -> bool:
        return True


def show(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, frames: int = 0, **line: float
) -> str:
    """What a bar shows that starts at `frames` and goes to the end of 100."""
    monkeypatch.setattr(sys, "stderr", stream)
    trainer, write = stub(frames=frames), WriteMetrics([Lines()], interval=0)
    bar = ProgressBar(write)
    bar.open(trainer)
    write.last_line = line
    trainer.advance(100 - frames)
    bar(trainer, TensorDict())
    bar.close(trainer)
    return stream.getvalue()


def test_frames_return_and_loss_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    values: Any = {"eval/episode_return": 1234.567, "loss/qvalue": 0.5, "loss/actor": 9.0}
    shown = show(Terminal(), monkeypatch, **values)
    assert "0/100" in shown
    assert "100/100" in shown
    assert "frames/s" in shown
    assert "return=1235" in shown
    assert "loss=0.5" in shown


def test_a_resumed_bar_starts_where_the_run_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = show(Terminal(), monkeypatch, frames=60)
    assert "60/100" in shown
    assert "0/100 [" not in shown.replace("60/100", "").replace("100/100", "")


def test_an_early_end_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    trainer = stub()
    trainer.stop_at = 40
    bar = ProgressBar(WriteMetrics([], interval=0))
    bar.open(trainer)
    bar.close(trainer)
    assert "0/40" in stream.getvalue()


def test_without_a_terminal_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert show(io.StringIO(), monkeypatch) == ""


def test_a_bar_that_was_never_opened_can_be_closed() -> None:
    ProgressBar(WriteMetrics([], interval=0)).close(stub())

"""Signals that ask a run to stop."""

from __future__ import annotations

import os
import signal

import pytest
from support.doubles import make_trainer

from trainers import signals
from trainers.signals import stop_on_signals


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_one_asks_and_handlers_are_put_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    trainer = make_trainer()
    with stop_on_signals(trainer):
        send(number)
    assert (trainer.stop_reason, trainer.interrupted) == (number.name, True)
    assert signal.getsignal(number) is before


def test_the_same_one_may_come_twice_at_once() -> None:
    with stop_on_signals(make_trainer()):
        send(signal.SIGTERM)
        send(signal.SIGTERM)


def test_a_later_one_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "SAME_SIGNAL_SECONDS", 0.0)
    with stop_on_signals(make_trainer()):
        send(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt, match="SIGINT again"):
            send(signal.SIGINT)


def test_stderr_may_be_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int, text: bytes) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(os, "write", broken)
    trainer = make_trainer()
    with stop_on_signals(trainer):
        send(signal.SIGTERM)
    assert trainer.stop_reason == "SIGTERM"


def test_a_later_reason_does_not_take_the_signal_back() -> None:
    trainer = make_trainer()
    trainer.stop("SIGTERM", interrupted=True)
    trainer.stop("early enough")
    assert (trainer.stop_reason, trainer.interrupted) == ("SIGTERM", True)

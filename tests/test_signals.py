"""Signals that ask a run to stop."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest
from support.doubles import make_trainer

from trainers import processes, signals
from trainers.signals import AtOnce, stop_on_signals


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
        with pytest.raises(AtOnce, match="SIGINT again"):
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


# ------------------------------------------------------------ before there is a run


@pytest.fixture
def interrupting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As `scripts/train.py` begins; all handlers are put back."""
    monkeypatch.setattr(signals, "_early", [])
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in numbers}
    signals.interrupt_on_signals()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)]
)
@pytest.mark.usefixtures("interrupting")
def test_without_a_run_it_is_raised_and_names_itself(number: signal.Signals, code: int) -> None:
    with pytest.raises(KeyboardInterrupt, match=number.name) as raised:
        send(number)
    assert signals.exit_code(raised.value) == code
    send(signal.SIGTERM)  # make passes it on: what is being cleared away goes on being so


def test_python_s_own_is_a_sigint() -> None:
    assert signals.exit_code(KeyboardInterrupt()) == 130


@pytest.mark.usefixtures("interrupting")
def test_one_that_an_import_has_swallowed_stops_the_run() -> None:
    with suppress(KeyboardInterrupt):
        send(signal.SIGTERM)
    trainer = make_trainer()
    with stop_on_signals(trainer):
        pass
    assert (trainer.stop_reason, trainer.interrupted) == ("SIGTERM", True)


def test_a_second_one_ends_the_process() -> None:
    program = """
import os, signal, time
from contextlib import suppress
from trainers import signals
signals.SAME_SIGNAL_SECONDS = 0.1
signals.interrupt_on_signals()
try:
    os.kill(os.getpid(), signal.SIGTERM)
finally:
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""
    done = processes.run([sys.executable, "-c", program], timeout_s=50)
    assert done.returncode == -signal.SIGTERM

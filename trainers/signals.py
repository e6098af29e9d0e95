"""Signals ask a run to stop; the run decides where."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainers.trainer import Trainer

# Ctrl-C; of batch systems: the end is near (SIGUSR1 is what Slurm's --signal is mostly set to).
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
# A signal to a whole process group arrives twice: directly, and passed on by make.
SAME_SIGNAL_SECONDS = 1.0

_early: list[signal.Signals] = []  # came before the training began


class Interrupted(KeyboardInterrupt):
    """A signal came while nothing was there that could stop at a boundary."""

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(self.signal.name)


class AtOnce(KeyboardInterrupt):
    """A second signal: nobody wants to wait for anything that takes its time."""


def exit_code(interruption: KeyboardInterrupt) -> int:
    """What a shell makes of a process that a signal ended: 130 after SIGINT, 143 after SIGTERM."""
    return 128 + getattr(interruption, "signal", signal.SIGINT)


def interrupt_on_signals() -> None:
    """From now on SIGINT, SIGTERM and SIGUSR1 are raised as :class:`Interrupted`.

    So what was begun is cleared away. A second signal ends the process at once.
    """
    first: float | None = None

    def interrupt(number: int, frame: Any) -> None:
        nonlocal first
        if first is None:
            first = time.monotonic()
            _early.append(signal.Signals(number))
            raise Interrupted(number)
        if time.monotonic() - first >= SAME_SIGNAL_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    for number in _SIGNALS:
        signal.signal(number, interrupt)


def raise_if_interrupted() -> None:
    """After an import, which can swallow what is raised in it."""
    if _early:
        raise Interrupted(_early.pop())


@contextmanager
def stop_on_signals(trainer: Trainer) -> Iterator[None]:
    """The first SIGINT, SIGTERM or SIGUSR1 asks for a checkpoint and a clean end.

    The second one ends it now.

    Raises:
        AtOnce: on the second one.
    """
    first: float | None = None

    def stop(number: int, frame: Any) -> None:
        nonlocal first
        name = signal.Signals(number).name
        if first is None:
            first = time.monotonic()
            trainer.stop(name, interrupted=True)
            _say(f"\n{name}: stopping with a checkpoint; once more stops at once\n")
        elif time.monotonic() - first >= SAME_SIGNAL_SECONDS:
            raise AtOnce(f"{name} again")

    previous = {number: signal.signal(number, stop) for number in _SIGNALS}
    if _early:  # an import can swallow what is raised in it
        stop(_early.pop(), None)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    # Not print: the signal may come while something is being printed, or stderr may be gone.
    with suppress(OSError):
        os.write(2, text.encode())

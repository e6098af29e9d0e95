"""A save that is cut off between any two of its system calls, or that the disk refuses."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from support.states import assert_same
from torch import Tensor

from trainers.hooks import checkpointing
from trainers.hooks.checkpointing import Checkpoint, checkpoints, newest_valid
from trainers.metrics import Metrics, Stopwatch
from trainers.saving import checkpoint
from trainers.saving.segments import Rows

# What Python tells about itself before it asks the system for it; fsync and write are added below.
EVENTS = {"open", "os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir"}
ROWS = 5_000  # two pieces


class Run:
    """What the hook needs of a trainer; its state depends on the frame alone."""

    def __init__(self, frames: int) -> None:
        self.frames = self.updates = frames
        self.metrics, self.stopwatch = Metrics(), Stopwatch()

    def save(self, path: Path, previous: Path | None = None) -> None:
        checkpoint.save(path, self.state(), previous)

    def state(self) -> dict[str, Any]:
        end = ROWS + self.frames
        return {"frames": self.frames, "net": torch.full((9,), self.frames), "log": rows(end)}


def rows(end: int) -> Rows:
    def read(begin: int, end: int) -> dict[str, Tensor]:
        return {"x": torch.arange(begin, end, dtype=torch.float32)}

    return Rows(0, end, read)


def at_call(number: int, act: Callable[[], None], save: Callable[[], None], place: Path) -> None:
    """`save`, in this process, but for `act` just before its system call `number` in `place`."""
    calls = 0

    def count(where: object) -> None:
        nonlocal calls
        if str(where).startswith(str(place)):
            calls += 1
            if calls == number:
                act()

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event in EVENTS:
            count(_named(event, arguments))

    sync = os.fsync

    def counted_sync(descriptor: int) -> None:
        count(opened(descriptor))
        sync(descriptor)

    def counted_write(path: Path, content: bytes) -> None:
        with path.open("wb", buffering=0) as file:
            for half in (content[: len(content) // 2], content[len(content) // 2 :]):
                count(path)
                file.write(half)

    os.fsync = counted_sync
    Path.write_bytes = counted_write  # type: ignore  # in a process of its own, as the rest
    sys.addaudithook(audit)  # for good
    save()
    os._exit(0 if calls < number else 1)


def _named(event: str, arguments: tuple[Any, ...]) -> object:
    """The path; files are removed by their names in a directory that is open."""
    if event in ("os.remove", "os.rmdir") and arguments[1] >= 0:
        return opened(arguments[1]) / arguments[0]
    return arguments[0]


def opened(descriptor: int) -> Path:
    return Path(os.readlink(f"/proc/self/fd/{descriptor}"))


def in_a_copy(run: Callable[[], None]) -> int | None:
    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(60)
    return process.exitcode


def kill() -> None:
    os._exit(9)


def refuse() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def saved(directory: Path, *frames: int) -> Checkpoint:
    """The hook, after it has saved these frames."""
    hook = Checkpoint(directory, keep=2)
    for each in frames:
        hook(Run(each))
    return hook


def assert_intact(path: Path | None, frames: int) -> None:
    assert path is not None
    assert_same(checkpoint.load(path), Run(frames).state())


def test_between_any_two_system_calls(tmp_path: Path) -> None:
    """Of a third save, which links, writes, commits, and removes the first."""
    deaths = 0
    while True:
        place = tmp_path / str(deaths)
        saved(place, 1, 2)
        third_save = partial(saved, place, 3)
        code = in_a_copy(partial(at_call, deaths + 1, kill, third_save, place))
        assert code in (0, 9)
        found = newest_valid(place)
        assert found is not None
        third = found.name.startswith("0000000003")
        assert_intact(found, 3 if third else 2)
        if code == 0:
            assert third
            break
        # All that is there by its name is whole, but for an old one that was being removed.
        for path in checkpoints(place)[: 2 if third else 1]:
            checkpoint.load(path)
        # And the next save clears up.
        saved(place, 4)
        assert_intact(newest_valid(place), 4)
        assert len(checkpoints(place)) == 2
        assert not list(place.glob(".*"))
        deaths += 1
    assert deaths > 35


def test_a_disk_that_refuses_any_one_call(tmp_path: Path) -> None:
    """The run goes on, what was saved stays, and the next save works."""
    refusals = 0
    while True:
        place = tmp_path / str(refusals)
        saved(place, 1, 2)
        twice = partial(save_twice, place)
        code = in_a_copy(partial(at_call, refusals + 1, refuse, twice, place))
        assert code in (0, 1), f"at call {refusals + 1}"
        assert_intact(newest_valid(place), 4)
        for path in checkpoints(place)[:2]:
            checkpoint.load(path)
        if code == 0:
            break
        refusals += 1
    assert refusals > 70


def save_twice(place: Path) -> None:
    """If the first one fails, it is not there or whole; the second works, if the first failed."""
    logging.disable()
    hook = saved(place)
    hook(Run(3))
    failed = hook.failed
    for path in checkpoints(place):
        if failed and path.name.startswith("0000000003"):  # its directory could not be synced
            checkpoint.load(path)
    hook(Run(4))
    if hook.failed and failed:
        os._exit(6)
    if hook.failed:  # it was refused itself: there is room again
        hook(Run(4))


def test_the_hook_passes_over_what_it_cannot_remove(tmp_path: Path) -> None:
    hook = saved(tmp_path, 1, 2)
    stuck = checkpoints(tmp_path)[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpointing.shutil, "rmtree", lambda *_, **__: None)
        hook(Run(3))
    assert stuck.exists()
    hook(Run(4))
    assert [int(path.name[:10]) for path in checkpoints(tmp_path)] == [4, 3]

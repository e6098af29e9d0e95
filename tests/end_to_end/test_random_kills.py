"""SIGKILL at random instants, of training and of saving: nothing is lost, and nothing differs."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from all_runs import RUNS
from running import assert_equal_runs, names, train
from support.algorithms import ALL

RUN = Path("run")
# Without a bar: copies of one process share its lock, and one may be killed that holds it.
OFTEN = ("checkpoint.interval=8", "progress=false")
STRUCK: list[tuple[int, int]] = []  # kills of each run so far, and those while it was saving


def start(arguments: tuple[str, ...], run_dir: Path) -> Any:
    """Begin or go on, in a copy of this process, which has everything imported."""

    def run() -> None:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 2)
        sys.exit(train(*arguments, *OFTEN, f"run_dir={run_dir}", "resume=auto"))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def kill(arguments: tuple[str, ...], kills: int, seed: str) -> tuple[int, int]:
    """Run until so many kills have struck, and to the end; kills, and those while it was saving."""
    begin = time.monotonic()
    straight = start(arguments, Path("straight"))
    straight.join(180)
    assert straight.exitcode == 0
    seconds = time.monotonic() - begin
    dice, struck, saving = random.Random(seed), 0, 0
    while struck < kills:
        process = start(arguments, RUN)
        process.join(dice.uniform(0.0, seconds))
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            struck += 1
            saving += any(RUN.glob("checkpoints/.*.partial"))
        elif process.exitcode == 0:
            assert_equal_runs(RUN, Path("straight"))
            shutil.rmtree(RUN)
        else:
            pytest.fail(f"exit code {process.exitcode}: {(RUN / 'train.log').read_text()[-2000:]}")
    last = start(arguments, RUN)
    last.join(180)
    assert last.exitcode == 0, (RUN / "train.log").read_text()[-2000:]
    assert names(RUN)[0] == names(Path("straight"))[0]
    assert_equal_runs(RUN, Path("straight"))
    assert "damaged" not in (RUN / "train.log").read_text()
    return struck, saving


def test_every_algorithm_is_among_the_runs() -> None:
    assert {arguments[0] for arguments in RUNS.values()} == {f"algo={name}" for name in ALL}


@pytest.mark.parametrize("name", ["sac", "ppo"])
def test_a_few(name: str) -> None:
    kill(RUNS[name], 2, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_many(name: str) -> None:
    struck, saving = kill(RUNS[name], 25 if name in ALL else 10, name)
    STRUCK.append((struck, saving))
    print(f"{name}: {struck} kills survived, {saving} of them while saving")


@pytest.mark.slow
def test_some_of_them_struck_while_it_was_saving() -> None:
    """Else they would prove less than they seem to."""
    if len(STRUCK) < len(RUNS):
        pytest.skip("it takes all of them")
    kills, saving = map(sum, zip(*STRUCK, strict=True))
    assert kills >= 200
    assert saving >= 5
    print(f"{kills} kills survived, {saving} of them while saving")

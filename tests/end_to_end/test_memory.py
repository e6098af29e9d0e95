"""The memory that a run takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import TINY, TINY_PPO, lines, script

pytestmark = pytest.mark.slow

RUN = Path("run")

# 320 updates on 128 frames.
_OFTEN = ("algo.frames_per_batch=128", "algo.minibatch_size=8", "algo.num_epochs=20")


def test_it_does_not_grow() -> None:
    arguments = (
        *(*TINY, "plugins=[my_plugin]", "hooks=[memory]", "run_dir=run", "total_frames=12_000"),
        *("log.interval=1_000", "eval.interval=1_000", "checkpoint.interval=500"),
    )
    process = script(*arguments, timeout=1200)
    assert process.returncode == 0, process.stderr
    resident = {line["frames"]: line["memory/VmRSS"] for line in lines(RUN)}
    assert resident[2_000] > 100
    assert resident[12_000] - resident[2_000] < 10, resident


@pytest.mark.parametrize("algo", ["sac", "ppo"])
def test_it_does_not_grow_over_a_hundred_thousand_updates(algo: str) -> None:
    settings = {
        "sac": (*TINY, "algo.utd_ratio=20.0", "total_frames=5_050", "log.interval=100"),
        "ppo": (*TINY_PPO, *_OFTEN, "total_frames=40_064", "log.interval=1_000"),
    }[algo]
    arguments = (*settings, "plugins=[my_plugin]", "hooks=[memory]", "run_dir=run")
    process = script(*arguments, timeout=1800)
    assert process.returncode == 0, process.stderr
    resident = {line["updates"]: line["memory/VmRSS"] for line in lines(RUN)}
    assert max(resident) >= 100_000
    early = next(value for updates, value in sorted(resident.items()) if updates >= 10_000)
    assert resident[max(resident)] - early < 10, resident


def test_a_million_frames_stay_below_a_gigabyte() -> None:
    arguments = (
        *("env=HalfCheetah", "run_dir=run", "total_frames=40", "eval.episodes=1", "threads=1"),
        *("device=cpu", "algo.init_random_frames=20", "algo.buffer_size=1_000_000"),
    )
    mine = ("plugins=[my_plugin]", "hooks=[fill,memory]")
    process = script(*arguments, *mine, timeout=1200)
    assert process.returncode == 0, process.stderr
    rows = list(RUN.glob("checkpoints/0000000040-*/rows-*"))
    assert sum(file.stat().st_size for file in rows) > 160e6
    assert lines(RUN)[-1]["memory/VmHWM"] < 1000, "while it was saved"
    process = script("resume=run", "total_frames=50", *mine, timeout=1200)
    assert process.returncode == 0, process.stderr
    assert lines(RUN)[-1]["frames"] == 50
    assert lines(RUN)[-1]["memory/VmHWM"] < 1000, "while it was loaded"
    # Ten frames later all but the first and the last piece, and the networks, are the same files.
    newest = [file for file in RUN.glob("checkpoints/0000000050-*/*") if file.stat().st_nlink == 1]
    assert sum(file.stat().st_size for file in newest) < 6e6

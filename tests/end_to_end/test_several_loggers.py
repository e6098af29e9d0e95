"""TensorBoard and Weights & Biases show what metrics.jsonl holds, also after a kill."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from running import TINY, assert_equal_runs, forked, lines, train
from support.logs import points, tensorboard_points, wandb_files, wandb_lines, wandb_records

RUN = Path("run")
BOTH = "logger=[tensorboard,wandb]"


def sent(path: Path) -> list[dict[str, Any]]:
    """The lines in a file of Weights & Biases, without what it adds itself."""
    return [
        {name: value for name, value in line.items() if not name.startswith("_")}
        for line in wandb_lines(path)
    ]


def timeless(line: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in line.items() if k != "seconds" and not k.startswith("time/")}


def test_they_agree_by_name_and_value() -> None:
    assert forked(*TINY, BOTH, "run_dir=run") == 0
    (file,) = wandb_files(RUN)
    assert sent(file) == lines(RUN)
    assert tensorboard_points(RUN / "tensorboard") == points(lines(RUN))


def test_a_killed_run_goes_on_under_the_same_id(
    monkeypatch: pytest.MonkeyPatch, finished: Path
) -> None:
    monkeypatch.setenv("SIGNAL", "SIGKILL")
    monkeypatch.setenv("FRAME", "110")
    monkeypatch.setenv("PAUSE", "3")  # wandb writes what it has every second
    killed = ("plugins=[my_plugin]", "hooks=[signal]", "run_dir=run")
    assert forked(*TINY, BOTH, *killed) == -signal.SIGKILL
    assert [line["frames"] for line in lines(RUN)] == [50, 60, 100]
    assert forked("resume=run", "plugins=[my_plugin]", "hooks=[]") == 0
    assert_equal_runs(RUN, finished)

    assert tensorboard_points(RUN / "tensorboard") == points(lines(RUN))
    assert len(list((RUN / "tensorboard").iterdir())) == 2

    first, second = wandb_files(RUN)
    ids = [r.run.run_id for f in (first, second) for r in wandb_records(f) if r.HasField("run")]
    assert set(ids) == {(RUN / "wandb_id").read_text().strip()}
    assert [line["frames"] for line in sent(first)] == [50, 60, 100]
    assert sent(second) == lines(RUN)[2:]  # from the checkpoint at frame 64 on
    # What both have is the same: a resumed run goes the same way.
    assert timeless(sent(first)[2]) == timeless(sent(second)[0])


def test_a_start_from_frame_0_shows_nothing_of_the_run_before() -> None:
    tensorboard = (*TINY, "logger=tensorboard", "run_dir=run", "log.interval=10")
    assert train(*tensorboard, "total_frames=40") == 0
    shutil.rmtree(RUN / "checkpoints")
    assert train("resume=run", "total_frames=60", "log.interval=50") == 0
    assert [line["frames"] for line in lines(RUN)] == [50, 60]
    assert tensorboard_points(RUN / "tensorboard") == points(lines(RUN))


def test_lines_after_the_checkpoint_go_before_there_are_new_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    signalled = ("plugins=[my_plugin]", "hooks=[signal]")
    monkeypatch.setenv("SIGNAL", "SIGKILL")
    monkeypatch.setenv("FRAME", "110")
    killed = (*TINY, *signalled, "logger=tensorboard", "run_dir=run")
    assert forked(*killed) == -signal.SIGKILL
    assert [line["frames"] for line in lines(RUN)] == [50, 60, 100]
    monkeypatch.setenv("SIGNAL", "SIGTERM")
    monkeypatch.setenv("FRAME", "70")
    assert train("resume=run", *signalled) == 75
    assert [line["frames"] for line in lines(RUN)] == [50, 60]
    assert tensorboard_points(RUN / "tensorboard") == points(lines(RUN))

"""The run is saved."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from support.disk import save_and_forge
from support.doubles import make_trainer, stub
from support.states import assert_same

from trainers.hooks import Checkpoint
from trainers.hooks.checkpointing import checkpoints, newest_valid
from trainers.saving import checkpoint


def test_the_last_ones_are_kept(tmp_path: Path) -> None:
    trainer, hook = stub(), Checkpoint(tmp_path / "checkpoints", keep=2)
    for frames in (0, 900_000, 100_000, 10_000_000_000):  # sorted as numbers, not as words
        trainer.advance(frames, updates=frames)
        hook(trainer)
    names = [path.name for path in checkpoints(tmp_path / "checkpoints")]
    assert names == ["10001000000-10001000000", "0001000000-0001000000"]
    assert len(trainer.saved) == 4
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == sorted(names)


def test_the_same_state_is_saved_once(tmp_path: Path) -> None:
    trainer, hook = stub(frames=3), Checkpoint(tmp_path)
    hook(trainer)
    hook(trainer)
    trainer.advance(frames=0, updates=1)  # stopped between two updates
    hook(trainer)
    assert len(trainer.saved) == 2


def test_a_checkpoint_takes_no_time_of_training(tmp_path: Path) -> None:
    trainer, hook = stub(), Checkpoint(tmp_path)
    trainer.save = lambda path, previous: time.sleep(0.02)
    with trainer.stopwatch.running():
        hook(trainer)
    paused = trainer.stopwatch.seconds - trainer.stopwatch.training_seconds
    assert paused >= 0.02
    assert trainer.metrics.flush()["time/checkpoint_s"] >= 0.02


def test_a_full_disk_does_not_end_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer, hook = make_trainer(total_frames=4), Checkpoint(tmp_path, keep=1)
    trainer.register_hook("checkpoint", hook)
    save = trainer.save

    def full(path: Any, previous: Any) -> None:
        if trainer.frames in (2, 4):
            raise OSError("No space left on device")
        save(path, previous)

    trainer.save = full
    failed: list[bool] = []
    trainer.register_hook("checkpoint", lambda trainer: failed.append(hook.failed))
    trainer.train()
    assert trainer.frames == 4
    assert failed == [False, True, False, True]
    assert [path.name[:10] for path in checkpoints(tmp_path)] == ["0000000003"]
    assert "NO CHECKPOINT at frame 4: No space left on device" in caplog.text


def test_what_killed_processes_left_is_cleared_away_before_there_is_a_new_one(
    tmp_path: Path,
) -> None:
    """The disk may be full of it."""
    trainer, hook = stub(), Checkpoint(tmp_path)
    (tmp_path / ".0000000009-0000000009.partial").mkdir()
    seen: list[list[Path]] = []
    save = trainer.save

    def look_and_save(path: Path, previous: Path | None) -> None:
        seen.append(list(tmp_path.iterdir()))
        save(path, previous)

    trainer.save = look_and_save
    hook(trainer)
    assert seen == [[]]
    assert len(trainer.saved) == 1


def test_the_newest_that_can_be_loaded_is_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert newest_valid(tmp_path / "nosuch") is None
    assert newest_valid(tmp_path) is None
    for number in range(3):
        checkpoint.save(tmp_path / f"{number:010d}-0", {"a": torch.ones(1)})
    (tmp_path / ".0000000009-0.partial").mkdir()
    assert newest_valid(tmp_path) == tmp_path / "0000000002-0"
    (tmp_path / "0000000002-0" / "state.json").write_text("{}")
    assert newest_valid(tmp_path) == tmp_path / "0000000001-0"
    assert "skipping a damaged checkpoint" in caplog.text
    assert "0000000002-0" in caplog.text
    tensor = b'{"format": 2, "state": {"a": {"$tensor": "nosuch"}}}'  # all hashes are right
    save_and_forge(tmp_path / "0000000003-0", "state.json", tensor)
    assert newest_valid(tmp_path) == tmp_path / "0000000001-0"
    assert "0000000003-0" in caplog.text


def test_a_trainer_comes_back_from_its_checkpoint(tmp_path: Path) -> None:
    trainer = make_trainer(total_frames=5)
    trainer.register_hook("checkpoint", Checkpoint(tmp_path))
    trainer.train()
    restored = make_trainer(total_frames=5)
    path = newest_valid(tmp_path)
    assert path is not None
    restored.load(path)
    assert restored.finished
    ignored = ("/stopwatch", "/metrics")  # saving was measured afterwards
    assert_same(restored.state_dict(), trainer.state_dict(), ignored)

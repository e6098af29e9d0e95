"""The replay buffer."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from support.doubles import Rollouts, make_trainer, stub
from support.states import assert_same
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, ReplayBuffer
from torchrl.data.replay_buffers.samplers import SamplerWithoutReplacement
from torchrl.envs import RewardScaling

from trainers.hooks import Replay
from trainers.replay.rows import RowStorage, on_disk
from trainers.saving import checkpoint, segments
from trainers.updates import UpdateRatio

STORAGES = {
    "torchrl's": LazyTensorStorage,
    "rows": RowStorage,
    "rows on disk": partial(RowStorage, empty=on_disk),
}


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize(("num_envs", "steps"), [(1, 1), (3, 1), (2, 5)])
def test_every_frame_is_stored_once_warm_up_included(
    storage: str, num_envs: int, steps: int
) -> None:
    buffer = ReplayBuffer(storage=STORAGES[storage](100), batch_size=4)
    replay = Replay(buffer)
    trainer = make_trainer(
        collector=Rollouts(num_envs, steps),
        total_frames=30,
        update_plan=UpdateRatio(1.0, init_random_frames=20),
    )
    trainer.register_hook("post_collect", replay.extend)
    trainer.register_hook("process_optim_batch", replay.sample)
    trainer.train()
    assert buffer[:]["observation"].flatten().tolist() == list(range(30))
    assert buffer[:]["next", "observation"].flatten().tolist() == list(range(1, 31))
    assert trainer.updates == 10


def test_whether_an_episode_succeeded_is_not_stored() -> None:
    buffer = ReplayBuffer(storage=LazyTensorStorage(10))
    replay, rollouts = Replay(buffer), Rollouts(2, 2)
    replay.extend(stub(), rollouts.rollout())
    told = rollouts.rollout()
    told["next", "success"] = told["next", "done"].clone()
    replay.extend(stub(), told)
    assert buffer[:]["observation"].flatten().tolist() == list(range(8))
    assert ("next", "success") not in buffer[:].keys(True)
    assert ("next", "success") in told.keys(True)


def test_the_oldest_frames_make_room() -> None:
    buffer = ReplayBuffer(storage=LazyTensorStorage(7))
    replay, rollouts = Replay(buffer), Rollouts(2, 2)
    for _ in range(3):
        replay.extend(stub(), rollouts.rollout())
    assert buffer[:]["observation"].flatten().tolist() == [7, 8, 9, 10, 11, 5, 6]


def test_batches_are_drawn_uniformly_and_are_copies() -> None:
    torch.manual_seed(0)
    buffer = ReplayBuffer(storage=LazyTensorStorage(10))
    replay = Replay(buffer, batch_size=5_000)
    replay.extend(stub(), Rollouts(2, 5).rollout())
    batch = replay.sample(stub(), TensorDict())
    assert batch.batch_size == (5_000,)
    observation = batch["observation"].flatten()
    assert torch.bincount(observation.long()).tolist() == pytest.approx([500] * 10, abs=90)
    assert torch.equal(batch["next", "observation"].flatten(), observation + 1)
    batch.zero_()
    assert buffer[:]["observation"].sum() == 45


def test_the_batch_size_is_the_buffer_s_own_by_default() -> None:
    replay = Replay(ReplayBuffer(storage=LazyTensorStorage(10), batch_size=3))
    replay.extend(stub(), Rollouts(2, 5).rollout())
    assert replay.sample(stub(), TensorDict()).batch_size == (3,)


def test_batches_go_where_they_are_needed() -> None:
    replay = Replay(ReplayBuffer(storage=LazyTensorStorage(10)), 3, device="meta")
    replay.extend(stub(), Rollouts(2, 5).rollout())
    assert replay.sample(stub(), TensorDict())["observation"].device.type == "meta"


def _make(storage: str, sampler: Any, size: int = 10) -> Replay:
    given = {} if sampler is None else {"sampler": sampler()}
    return Replay(ReplayBuffer(storage=STORAGES[storage](size), batch_size=4, **given))


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("rollouts", [0, 2, 3, 7])
@pytest.mark.parametrize("sampler", [None, SamplerWithoutReplacement])
def test_a_buffer_survives_a_checkpoint(
    storage: str, rollouts: int, sampler: Any, tmp_path: Path
) -> None:
    """Empty, partly filled, after one wrap-around and after several: the cursor is in place."""
    first, second = _make(storage, sampler), _make(storage, sampler)
    source = Rollouts(2, 2)
    for _ in range(rollouts):
        first.extend(stub(), source.rollout())
    if rollouts:
        first.sample(stub(), TensorDict())
    second.extend(stub(), Rollouts(1, 3).rollout())  # what it held before is gone
    checkpoint.save(tmp_path / "c", first.state_dict())
    second.load_state_dict(checkpoint.load(tmp_path / "c"))
    assert len(second.buffer) == len(first.buffer) == min(10, 4 * rollouts)
    for _ in range(4):
        rollout = source.rollout()
        drawn = []
        for replay in (first, second):
            replay.extend(stub(), rollout)
            torch.manual_seed(5)
            drawn.append(replay.sample(stub(), TensorDict()).to_dict())
        assert_same(*drawn)
        assert_same(first.buffer[:].to_dict(), second.buffer[:].to_dict())
    assert_same(first.state_dict(), second.state_dict())


def test_a_transform_is_not_applied_again_by_a_checkpoint(tmp_path: Path) -> None:
    def scaled() -> Replay:
        scaling = RewardScaling(loc=0.0, scale=0.1, in_keys=[("next", "reward")])
        return Replay(ReplayBuffer(storage=LazyTensorStorage(10), transform=scaling), 4)

    first, second = scaled(), scaled()
    first.extend(stub(), Rollouts(1, 5).rollout())
    checkpoint.save(tmp_path / "c", first.state_dict())
    second.load_state_dict(checkpoint.load(tmp_path / "c"))
    assert_same(first.buffer.storage[:5].to_dict(), second.buffer.storage[:5].to_dict())


@pytest.mark.parametrize("rollouts", [1, 2, 3, 7])
@pytest.mark.parametrize("before", [8, 10])
@pytest.mark.parametrize("size", [3, 4, 6, 8, 10, 11, 25])
def test_a_buffer_of_another_size_keeps_the_latest_frames_in_order(
    rollouts: int, before: int, size: int, tmp_path: Path
) -> None:
    """One of 8 is just full after two rollouts."""
    first, second = _make("rows", None, before), _make("rows", None, size)
    source = Rollouts(2, 2)
    for _ in range(rollouts):
        first.extend(stub(), source.rollout())
    checkpoint.save(tmp_path / "c", first.state_dict())
    second.load_state_dict(checkpoint.load(tmp_path / "c"))
    stored = [*range(4 * rollouts)][-before:]
    assert by_age(second) == stored[-size:]
    assert second.restored[0] == ("exact" if size >= len(stored) else "statistical")
    for _ in range(8):
        second.extend(stub(), source.rollout())
        stored = [*stored, *range(stored[-1] + 1, stored[-1] + 5)]
        assert by_age(second) == stored[-size:]


def by_age(replay: Replay) -> list[int]:
    slots = replay.nth_oldest(torch.arange(len(replay.buffer)))
    return replay.buffer.storage[:]["observation"].flatten()[slots].int().tolist()


def test_frames_keep_their_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """So a piece that is full is never written again, wherever in the ring it lies."""
    monkeypatch.setattr(segments, "SEGMENT_ROWS", 4)
    replay, source = _make("rows", None), Rollouts(1, 3)
    previous, shared = None, []
    for number in range(8):
        replay.extend(stub(), source.rollout())
        path = tmp_path / str(number)
        checkpoint.save(path, replay.state_dict(), previous)
        frames = checkpoint.load(path)["frames"]
        end = 3 * (number + 1)
        assert (frames.first, frames.end) == (max(0, end - 10), end)
        assert frames.tables()["observation"].flatten().tolist() == [*range(frames.first, end)]
        shared.append(sum(file.stat().st_nlink > 1 for file in path.glob("rows-*")))
        previous = path
    assert shared == [0, 0, 1, 1, 1, 1, 1, 1]

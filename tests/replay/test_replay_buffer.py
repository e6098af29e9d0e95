"""Our replay buffer does what TorchRL's does."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, ReplayBuffer
from torchrl.envs import RewardScaling, UnaryTransform

from trainers.hooks import Replay
from trainers.replay.buffer import FastReplayBuffer
from trainers.replay.rows import RowStorage, on_disk
from trainers.replay.samplers import Prioritized
from trainers.seeding import seed_everything

STORAGES = {"memory": RowStorage, "memmap": partial(RowStorage, empty=on_disk)}


def rollout(number: int, num_envs: int = 2, steps: int = 3) -> TensorDict:
    """Frames that can be told from all others."""
    count = torch.arange(num_envs * steps, dtype=torch.float32).view(num_envs, steps, 1)
    value = 100.0 * number + count
    following = {"observation": value.repeat(1, 1, 4) + 1, "done": count > 3, "reward": -value}
    data = {"observation": value.repeat(1, 1, 4), "action": value, "next": following}
    return TensorDict(data, [num_envs, steps])


SAMPLERS = {
    "uniform": lambda size: None,
    "prioritized": lambda size: Prioritized(size, alpha=0.6, beta=0.4),
}


def both(
    storage: Any, capacity: int, sampler: Any = lambda size: None
) -> tuple[FastReplayBuffer, ReplayBuffer]:
    ours = FastReplayBuffer(storage=storage(capacity), batch_size=8, sampler=sampler(capacity))
    theirs = LazyTensorStorage(capacity)
    return ours, ReplayBuffer(storage=theirs, batch_size=8, sampler=sampler(capacity))


@pytest.mark.parametrize("storage", STORAGES.values(), ids=list(STORAGES))
@pytest.mark.parametrize("capacity", [100, 20, 12])  # six frames fit in, or wrap around, or exactly
@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=list(SAMPLERS))
def test_it_stores_and_samples_what_torchrl_would(
    storage: Any, capacity: int, sampler: Any
) -> None:
    ours, theirs = both(storage, capacity, sampler)
    for number in range(7):
        ours.store(rollout(number))
        theirs.extend(rollout(number).reshape(-1))
        assert len(ours) == len(theirs)
        assert ours.write_count == theirs.write_count
        assert ours.writer.state_dict() == theirs.writer.state_dict()
        assert (ours.storage[:] == theirs.storage[:]).all()
        for size in (None, 5):
            seed_everything(number)
            batch, info = ours.sample(size, return_info=True)
            seed_everything(number)
            expected, their_info = theirs.sample(size, return_info=True)
            assert batch.batch_size == expected.batch_size
            assert set(batch.keys(True)) == set(expected.keys(True))
            assert (batch == expected).all()
            assert info.keys() == their_info.keys()
            assert all((info[key] == their_info[key]).all() for key in info)
            for buffer in (ours, theirs):
                buffer.update_priority(info["index"], batch["action"].squeeze(-1))
            assert all(type(value) is torch.Tensor for value in batch.values(True, True))


@pytest.mark.parametrize("capacity", [100, 20])
@pytest.mark.parametrize("given_at", [0, 3])  # to an empty buffer, or to one in use
def test_transforms_are_torchrl_s(given_at: int, capacity: int) -> None:
    """On the way out, and those that have an inverse on the way in, too."""
    keys = {key: ["action"] for key in ("in_keys", "out_keys", "in_keys_inv", "out_keys_inv")}
    both_ways: Any = {**keys, "fn": lambda x: x + 3.0, "inv_fn": lambda x: x / 2.0}
    ours, theirs = both(RowStorage, capacity)
    for number in range(6):
        if number == given_at:
            for buffer in (ours, theirs):
                buffer.append_transform(RewardScaling(1.0, 0.1, in_keys=[("next", "reward")]))
                buffer.append_transform(UnaryTransform(**both_ways))
        ours.store(rollout(number))
        theirs.extend(rollout(number).reshape(-1))
        batches = []
        for buffer in (ours, theirs):
            torch.manual_seed(number)
            batches.append(buffer.sample(return_info=True))
        (batch, info), (expected, their_info) = batches
        assert (ours.storage[:] == theirs.storage[:]).all()
        assert (batch == expected).all()
        assert (info["index"] == their_info["index"]).all()
    raw = ours.storage[info["index"]]
    torch.testing.assert_close(batch["next", "reward"], 0.1 * raw["next", "reward"] + 1.0)
    torch.testing.assert_close(batch["action"], raw["action"] + 3.0)


def test_transforms_are_not_captured() -> None:
    ours, _ = both(RowStorage, 100)
    ours.on_host = False  # as on a GPU
    replay = Replay(ours, device="cpu")
    assert replay.sample_capturable
    ours.append_transform(RewardScaling(0.0, 0.1, in_keys=[("next", "reward")]))
    assert not replay.sample_capturable


def test_the_device_knows_what_there_is_after_wrapping_around() -> None:
    ours, _ = both(RowStorage, 10)
    ours.on_host = False  # as on a GPU
    for number in range(3):
        ours.store(rollout(number))
        assert ours._filled == len(ours)
    ours.empty()
    with pytest.raises(RuntimeError, match="empty"):
        ours.sample()


def test_batches_are_copies() -> None:
    ours, _ = both(RowStorage, 10)
    ours.store(rollout(0))
    before = ours.storage[:].clone()
    ours.sample()["observation"].zero_()
    assert (ours.storage[:] == before).all()


def test_it_goes_on_after_it_was_emptied_and_filled_anew() -> None:
    ours, _ = both(RowStorage, 10)
    ours.store(rollout(0))
    ours.sample()
    ours.empty()
    with pytest.raises(RuntimeError):
        ours.sample()
    ours.store(rollout(5))
    assert ours.sample()["action"].min() >= 500


def test_an_entry_that_is_missing_is_named() -> None:
    ours, _ = both(RowStorage, 100)
    ours.store(rollout(0))
    with pytest.raises(KeyError, match="action"):
        ours.store(rollout(1).exclude("action"))
    assert len(ours) == 6

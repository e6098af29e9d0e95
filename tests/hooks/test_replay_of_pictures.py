"""A buffer whose pictures are kept apart hands out what one with whole observations would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.doubles import stub
from support.games import Games
from support.states import assert_same
from tensordict import TensorDict, TensorDictBase
from torchrl.data import LazyTensorStorage, ReplayBuffer

from trainers.hooks import NStepReturns, PrioritizedReplay, Replay, Slices
from trainers.replay.buffer import FastReplayBuffer
from trainers.replay.pictures import Pictures
from trainers.replay.rows import RowStorage
from trainers.replay.samplers import Prioritized
from trainers.saving import checkpoint
from trainers.seeding import seed_everything

Batches = Callable[[Replay], TensorDictBase]
SIZE = 30


def uniform(apart: bool, size: int = SIZE) -> Replay:
    buffer = FastReplayBuffer(storage=RowStorage(size), batch_size=12)
    return Replay(buffer, time_major=True, pictures=Pictures(size) if apart else None)


def prioritized(apart: bool, size: int = SIZE) -> Replay:
    sampler = Prioritized(size, 0.7, 0.5)
    buffer = ReplayBuffer(storage=LazyTensorStorage(size), sampler=sampler, batch_size=12)
    return PrioritizedReplay(buffer, None, None, True, Pictures(size) if apart else None)


def sampled(replay: Replay) -> TensorDictBase:
    batch = replay.sample(stub(), TensorDict())
    if isinstance(replay, PrioritizedReplay):
        batch["td_error"] = batch["action"].float()
        replay.update_priority(stub(), batch, TensorDict())
    return batch


def n_steps(replay: Replay) -> TensorDictBase:
    return NStepReturns(replay, 3, 0.9)(stub(), sampled(replay))


def slices(replay: Replay) -> TensorDictBase:
    return Slices(replay, 4)(stub(), TensorDict())


FORMS = [(uniform, sampled), (prioritized, sampled), (uniform, n_steps), (prioritized, n_steps),
         (uniform, slices)]  # fmt: skip


@pytest.mark.parametrize(("make", "draw"), FORMS)
@pytest.mark.parametrize(("num_envs", "steps"), [(1, 4), (3, 1), (2, 5)])
def test_batches_are_the_same(make: Any, draw: Batches, num_envs: int, steps: int) -> None:
    whole, apart = make(False), make(True)
    games = Games(num_envs)
    for number in range(25):
        rollout = games.rollout(steps)
        batches = []
        for replay in (whole, apart):
            replay.extend(stub(), rollout)
            seed_everything(number)
            if rollout.numel() * (number + 1) >= 4 * num_envs:
                batches.append(draw(replay).to_dict())
        assert len(batches) in (0, 2)
        if batches:
            assert_same(*batches)
    stored = set(apart.frames.keys(True, True))
    assert stored == {
        "action",
        *(("next", k) for k in ("reward", "done", "terminated", "truncated")),
    }


@pytest.mark.parametrize(("make", "draw"), FORMS)
@pytest.mark.parametrize("before", [0, 4, 9, 40])
def test_a_checkpoint_changes_nothing(
    make: Any, draw: Batches, before: int, tmp_path: Path
) -> None:
    one, two, games = make(True), make(True), Games(2)
    for _ in range(before):
        one.extend(stub(), games.rollout(1))
    checkpoint.save(tmp_path / "c", one.state_dict())
    two.load_state_dict(checkpoint.load(tmp_path / "c"))
    for number in range(10):
        rollout = games.rollout(2)
        drawn = []
        for replay in (one, two):
            replay.extend(stub(), rollout)
            seed_everything(number)
            if before + 2 * number >= 4:
                drawn.append(draw(replay).to_dict())
        if drawn:
            assert_same(*drawn)
    assert_same(one.state_dict(), two.state_dict())


@pytest.mark.parametrize("size", [12, 50])
@pytest.mark.parametrize("rollouts", [5, 40])
def test_a_buffer_of_another_size(size: int, rollouts: int, tmp_path: Path) -> None:
    one, two, games = uniform(True), uniform(True, size), Games(2)
    for _ in range(rollouts):
        one.extend(stub(), games.rollout(1))
    checkpoint.save(tmp_path / "c", one.state_dict())
    two.load_state_dict(checkpoint.load(tmp_path / "c"))
    for _ in range(30):
        filled = len(two.buffer)
        drawn = two.at(two.nth_oldest(torch.arange(filled)))
        told = games.told[len(games.told) - filled :]
        assert torch.equal(drawn["observation"], torch.stack([now for now, _ in told]))
        assert torch.equal(drawn["next", "observation"], torch.stack([then for _, then in told]))
        two.extend(stub(), games.rollout(1))


def test_batches_go_where_they_are_needed() -> None:
    replay = uniform(True)
    replay.device = torch.device("meta")
    replay.extend(stub(), Games(2).rollout(5))
    batch = replay.sample(stub(), TensorDict())
    assert batch["observation"].device.type == batch["next", "observation"].device.type == "meta"

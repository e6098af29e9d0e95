"""A rollout is taken apart into minibatches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.doubles import Rollouts, make_trainer, stub
from tensordict import TensorDict, TensorDictBase

from trainers.hooks import Minibatches
from trainers.updates import Epochs


def epoch(hook: Minibatches, rollout: TensorDict, number: int) -> list[torch.Tensor]:
    """The observations of an epoch's minibatches, which number the frames."""
    return [take(hook, rollout, update)["observation"].flatten() for update in range(number)]


def take(hook: Minibatches, rollout: TensorDict, updates_in_epoch: int) -> TensorDictBase:
    trainer = stub()
    trainer.updates_in_epoch = updates_in_epoch
    return hook(trainer, rollout)


@pytest.mark.parametrize(
    ("num_envs", "steps", "size", "sizes"),
    [(1, 12, 4, [4, 4, 4]), (3, 5, 4, [4, 4, 4, 3]), (2, 4, 8, [8]), (2, 4, 1, [1] * 8)],
)
def test_every_frame_comes_once_an_epoch_and_in_another_order_each_time(
    num_envs: int, steps: int, size: int, sizes: list[int]
) -> None:
    torch.manual_seed(0)
    hook, rollout = Minibatches(size), Rollouts(num_envs, steps).rollout()
    orders = []
    for _ in range(3):
        minibatches = epoch(hook, rollout, len(sizes))
        assert [len(m) for m in minibatches] == sizes
        orders.append(torch.cat(minibatches).tolist())
        assert sorted(orders[-1]) == list(range(num_envs * steps))
    assert len({tuple(order) for order in orders}) == 3
    assert list(range(num_envs * steps)) not in orders


def test_entries_stay_together() -> None:
    hook, rollout = Minibatches(5), Rollouts(2, 5).rollout()
    for update in range(2):
        batch = take(hook, rollout, update)
        assert torch.equal(batch["next", "observation"], batch["observation"] + 1)
        assert torch.equal(batch["next", "reward"], batch["observation"])


def test_an_epoch_that_was_cut_short_leaves_nothing_behind() -> None:
    hook, rollouts = Minibatches(2), Rollouts(1, 4)
    epoch(hook, rollouts.rollout(), number=1)
    following = torch.cat(epoch(hook, rollouts.rollout(), number=2))
    assert sorted(following.tolist()) == [4, 5, 6, 7]


@pytest.mark.parametrize(("size", "minibatches"), [(4, 4), (5, 3), (15, 1), (20, 1)])
def test_the_trainer_takes_all_of_them(size: int, minibatches: int) -> None:
    plan = Epochs(num_epochs=2, minibatch_size=size)
    trainer = make_trainer(collector=Rollouts(3, 5), total_frames=30, update_plan=plan)
    hook, seen = Minibatches(size), []
    trainer.register_hook("process_optim_batch", hook)

    def note(trainer: Any, batch: TensorDict, losses: TensorDict) -> None:
        seen.extend(batch["observation"].flatten().tolist())

    trainer.register_hook("post_optim", note)
    trainer.train()
    assert trainer.updates == 2 * 2 * minibatches
    assert sorted(seen) == sorted([*range(15)] * 2 + [*range(15, 30)] * 2)

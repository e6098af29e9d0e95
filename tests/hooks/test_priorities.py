"""Prioritized replay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.doubles import Rollouts, stub
from support.states import assert_same
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, ReplayBuffer

from trainers.hooks import PrioritizedReplay, Replay
from trainers.replay.buffer import FastReplayBuffer
from trainers.replay.rows import RowStorage
from trainers.replay.samplers import Prioritized
from trainers.saving import checkpoint


def make(
    batch_size: int = 4, alpha: float = 0.6, size: int = 10, **given: Any
) -> PrioritizedReplay:
    storage, sampler = RowStorage(size), Prioritized(size, alpha, beta=0.4)
    buffer = FastReplayBuffer(storage=storage, sampler=sampler, batch_size=batch_size)
    return PrioritizedReplay(buffer, **given)


def update(replay: PrioritizedReplay, index: list[int], errors: list[float]) -> None:
    batch = TensorDict(
        {"index": torch.tensor(index), "td_error": torch.tensor(errors)}, [len(index)]
    )
    replay.update_priority(stub(), batch, TensorDict())


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_frames_are_drawn_by_their_priorities_and_weighted_for_it(alpha: float) -> None:
    np.random.seed(0)
    replay = make(batch_size=20_000, alpha=alpha, beta=0.5)
    replay.extend(stub(), Rollouts(1, 6).rollout())
    errors = torch.tensor([0.5, 3.0, 0.0, 1.0, 2.0, 0.1], dtype=torch.float64)
    update(replay, [0, 1, 2, 3, 4, 5], errors.tolist())
    batch = replay.sample(stub(frames=40, total_frames=100), TensorDict())
    share = (errors + 1e-8) ** alpha
    share = share / share.sum()
    drawn = torch.bincount(batch["index"], minlength=6) / 20_000
    assert drawn.tolist() == pytest.approx(share.tolist(), abs=0.01)
    assert torch.equal(batch["observation"].flatten().long(), batch["index"])
    beta = 0.5 + 0.5 * 0.4
    weights = (6 * share) ** -beta
    expected = (weights / weights.max())[batch["index"]]
    assert batch["priority_weight"].dtype == torch.float32
    torch.testing.assert_close(batch["priority_weight"].double(), expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"beta": 0.4}, [0.4, 0.7, 1.0]),
        ({"beta": 0.5, "beta_end": 0.5}, [0.5, 0.5, 0.5]),
        ({"beta": 1.0, "beta_end": 0.2}, [1.0, 0.6, 0.2]),
    ],
)
def test_beta_moves_evenly(given: dict[str, Any], expected: list[float]) -> None:
    replay = make(**given)
    replay.extend(stub(), Rollouts(1, 6).rollout())
    betas = []
    for frames in (0, 50, 100):
        replay.sample(stub(frames=frames, total_frames=100), TensorDict())
        betas.append(replay.buffer.sampler.beta)
    assert betas == pytest.approx(expected)


def test_without_beta_there_are_no_weights() -> None:
    replay = make(beta=0.0, beta_end=0.0)
    replay.extend(stub(), Rollouts(1, 6).rollout())
    update(replay, [0, 1], [1.0, 8.0])
    weights = replay.sample(stub(frames=50, total_frames=100), TensorDict())["priority_weight"]
    assert weights.tolist() == [1.0] * 4


def test_new_frames_have_the_highest_priority_so_far() -> None:
    replay, source = make(batch_size=5_000, alpha=1.0), Rollouts(1, 2)
    replay.extend(stub(), source.rollout())
    update(replay, [0, 1], [1.0, 8.0])
    update(replay, [1], [1.0])
    replay.extend(stub(), source.rollout())
    np.random.seed(0)
    drawn = torch.bincount(replay.sample(stub(), TensorDict())["index"]) / 5_000
    assert drawn.tolist() == pytest.approx([1 / 18, 1 / 18, 8 / 18, 8 / 18], abs=0.02)


def test_keys_are_the_loss_s() -> None:
    replay = make(weight_key="w", error_key=("mine", "error"))
    replay.extend(stub(), Rollouts(1, 4).rollout())
    batch = replay.sample(stub(), TensorDict())
    assert "w" in batch.keys()  # noqa: SIM118  # a TensorDict knows no other way
    batch["mine", "error"] = torch.full((4,), 7.0)
    replay.update_priority(stub(), batch, TensorDict())
    assert replay.buffer.sampler.default_priority == 7.0


def test_another_sampler_is_refused() -> None:
    with pytest.raises(ValueError, match="PrioritizedSampler, got one with a RandomSampler"):
        PrioritizedReplay(ReplayBuffer(storage=LazyTensorStorage(10)))


@pytest.mark.parametrize("rollouts", [0, 2, 3, 7])
def test_it_survives_a_checkpoint(rollouts: int, tmp_path: Path) -> None:
    """The same frames with the same weights, whatever was in the buffer that is filled."""
    first, second, source = make(), make(), Rollouts(2, 2)
    rng = np.random.default_rng(1)

    def work(replay: PrioritizedReplay, errors: Any) -> TensorDict:
        np.random.seed(5)
        batch = replay.sample(stub(frames=30), TensorDict())
        update(replay, batch["index"].tolist(), errors.tolist())
        return batch

    for _ in range(rollouts):
        first.extend(stub(), source.rollout())
        work(first, rng.random(4) * 3)
    second.extend(stub(), Rollouts(1, 9).rollout())
    update(second, [0, 8], [9.0, 0.3])
    checkpoint.save(tmp_path / "c", first.state_dict())
    second.load_state_dict(checkpoint.load(tmp_path / "c"))
    assert_same(first.state_dict(), second.state_dict())
    for _ in range(6):
        rollout, errors = source.rollout(), rng.random(4) * 3
        batches = []
        for replay in (first, second):
            replay.extend(stub(), rollout)
            batches.append(work(replay, errors).to_dict())
        assert_same(*batches)
    assert_same(first.state_dict(), second.state_dict())


def test_another_exponent_counts_after_a_checkpoint() -> None:
    first, second = make(alpha=0.5), make(alpha=1.0)
    first.extend(stub(), Rollouts(1, 3).rollout())
    update(first, [0, 1, 2], [1.0, 4.0, 9.0])
    second.load_state_dict(first.state_dict())
    priorities = second.state_dict()["sampler"]["priorities"]
    assert priorities.tolist() == pytest.approx([1.0, 4.0, 9.0], rel=1e-5)


@pytest.mark.parametrize("rollouts", [0, 2, 5])
@pytest.mark.parametrize("size", [6, 10])
def test_frames_that_had_no_priorities_begin_with_that_of_a_new_one(
    rollouts: int, size: int, tmp_path: Path
) -> None:
    plain = Replay(FastReplayBuffer(storage=RowStorage(10), batch_size=4))
    second, source = make(size=size), Rollouts(1, 3)
    for _ in range(rollouts):
        plain.extend(stub(), source.rollout())
    checkpoint.save(tmp_path / "c", plain.state_dict())
    second.load_state_dict(checkpoint.load(tmp_path / "c"))
    how, why = second.restored
    assert how == ("statistical" if rollouts else "exact")
    assert ("frames had no priorities" in why) == (rollouts > 0)
    assert (f"the last {size} of" in why) == (len(plain.buffer) > size)
    second.extend(stub(), source.rollout())
    assert by_frame(second).keys() == set(range(3 * rollouts + 3)[-size:])
    assert set(by_frame(second).values()) == {1.0}
    batch = second.sample(stub(), TensorDict())
    update(second, batch["index"].tolist(), [0.1, 0.2, 0.3, 0.4])


def test_priorities_that_count_no_more_are_missed() -> None:
    first, plain = make(), Replay(FastReplayBuffer(storage=RowStorage(10), batch_size=4))
    first.extend(stub(), Rollouts(1, 3).rollout())
    plain.load_state_dict(first.state_dict())
    assert plain.restored == ("statistical", "frames are drawn alike, without their priorities")
    plain.load_state_dict(plain.state_dict())
    assert plain.restored == ("exact", "")


@pytest.mark.parametrize("size", [4, 10, 17])
def test_priorities_go_with_their_frames_into_a_buffer_of_another_size(size: int) -> None:
    first, second = make(), make(size=size)
    source = Rollouts(1, 3)
    for number in range(5):  # 15 frames in 10 slots
        first.extend(stub(), source.rollout())
        update(first, [(3 * number) % 10], [float(number + 1)])
    second.load_state_dict(first.state_dict())
    expected = by_frame(first)
    kept = dict(sorted(expected.items())[-size:])
    assert by_frame(second) == pytest.approx(kept)
    assert len(kept) == min(size, 10)


def by_frame(replay: PrioritizedReplay) -> dict[int, float]:
    frames = replay.buffer.storage[:]["observation"].flatten().int().tolist()
    slots = torch.arange(len(frames))
    return dict(zip(frames, replay.buffer.sampler._sum_tree[slots].tolist(), strict=True))

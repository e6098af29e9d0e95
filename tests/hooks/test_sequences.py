"""N-step returns and slices, against what a slow walk along the episodes finds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.doubles import stub
from support.states import assert_same
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, ReplayBuffer
from torchrl.envs import RewardScaling

from trainers.hooks import NStepReturns, Replay, Slices
from trainers.replay.rows import RowStorage
from trainers.saving import checkpoint

GAMMA = 0.9


class Stories:
    """Rollouts of environments whose episodes end now and then, and all that has happened."""

    def __init__(self, num_envs: int, steps: int, seed: int = 0) -> None:
        self.steps = steps
        self.history: list[list[dict[str, float]]] = [[] for _ in range(num_envs)]
        self.generator = torch.Generator().manual_seed(seed)

    def rollout(self) -> TensorDict:
        rows = [[self._frame(env) for _ in range(self.steps)] for env in range(len(self.history))]

        def column(key: str, kind: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.tensor([[[frame[key]] for frame in row] for row in rows], dtype=kind)

        shape = [len(rows), self.steps]
        flags = {k: column(k, torch.bool) for k in ("done", "terminated", "truncated")}
        following = {"observation": column("next"), "reward": column("reward"), **flags}
        return TensorDict(
            {
                "observation": column("id"),
                "action": column("id"),
                "next": TensorDict(following, shape),
            },
            shape,
        )

    def _frame(self, env: int) -> dict[str, float]:
        draw, reward = torch.rand(2, generator=self.generator).tolist()
        frame = {
            "id": 1000.0 * env + len(self.history[env]),
            "next": 1000.0 * env + len(self.history[env]) + 0.5,
            "reward": reward,
            "terminated": draw < 0.15,
            "truncated": 0.1 < draw < 0.25,
            "done": draw < 0.25,
        }
        self.history[env].append(frame)
        return frame

    def after(self, frame_id: float) -> list[dict[str, float]]:
        """The frame of this number, and those of its environment after it."""
        env, time = divmod(round(frame_id), 1000)
        return self.history[env][time:]


def slow_n_step(frames: list[dict[str, float]], steps: int) -> tuple[float, int, dict[str, float]]:
    """The discounted sum, the number of frames in it, and the last of them."""
    total = 0.0
    for count, frame in enumerate(frames[:steps], start=1):
        total += GAMMA ** (count - 1) * frame["reward"]
        if frame["done"] or count == min(steps, len(frames)):
            return total, count, frame
    raise AssertionError("there are no frames")


def make(capacity: int, batch_size: int = 300, storage: Any = LazyTensorStorage) -> Replay:
    buffer = ReplayBuffer(storage=storage(capacity), batch_size=batch_size)
    return Replay(buffer, time_major=True)


@pytest.mark.parametrize("storage", [LazyTensorStorage, RowStorage])
@pytest.mark.parametrize("steps", [1, 2, 3, 5])
@pytest.mark.parametrize(
    ("num_envs", "length", "capacity", "rollouts"),
    [(1, 1, 50, 40), (1, 1, 20, 53), (3, 1, 60, 9), (3, 1, 20, 31), (3, 4, 31, 7), (2, 5, 20, 6)],
)
def test_n_step_returns(
    num_envs: int, length: int, capacity: int, rollouts: int, steps: int, storage: Any
) -> None:
    torch.manual_seed(0)
    stories, replay = Stories(num_envs, length), make(capacity, storage=storage)
    for _ in range(rollouts):
        replay.extend(stub(), stories.rollout())
    assert len(replay.buffer) == min(capacity, rollouts * num_envs * length)
    hook = NStepReturns(replay, steps, GAMMA)
    batch = hook(stub(), replay.sample(stub(), TensorDict()))
    assert set(batch["index"].tolist()) == set(range(len(replay.buffer)))
    counts = set()
    for row in batch:
        total, count, last = slow_n_step(stories.after(row["observation"].item()), steps)
        assert row["next", "reward"].item() == pytest.approx(total, rel=1e-5)
        assert row["steps_to_next_obs"].tolist() == [count]
        assert row["next", "observation"].item() == last["next"]
        for flag in ("done", "terminated", "truncated"):
            assert row["next", flag].item() == last[flag]
        counts.add(count)
    assert counts == set(range(1, steps + 1))


def test_the_stored_frames_stay_as_they_are() -> None:
    stories, replay = Stories(2, 3), make(100)
    replay.extend(stub(), stories.rollout())
    before = replay.buffer[:].clone()
    NStepReturns(replay, 3, GAMMA)(stub(), replay.sample(stub(), TensorDict()))
    assert_same(before.to_dict(), replay.buffer[:].to_dict())


@pytest.mark.parametrize(
    ("num_envs", "length", "capacity", "rollouts"),
    [(1, 1, 50, 40), (1, 1, 20, 53), (3, 1, 20, 31), (3, 4, 31, 7)],
)
def test_slices(num_envs: int, length: int, capacity: int, rollouts: int) -> None:
    torch.manual_seed(0)
    stories, replay = Stories(num_envs, length), make(capacity, batch_size=1_000)
    for _ in range(rollouts):
        replay.extend(stub(), stories.rollout())
    batch = Slices(replay, 4)(stub(), TensorDict())
    assert batch.batch_size == (250, 4)
    firsts = set()
    for row in batch:
        first = row["observation"][0].item()
        frames = stories.after(first)[:4]
        assert row["observation"].flatten().tolist() == [frame["id"] for frame in frames]
        assert row["next", "done"].flatten().tolist() == [frame["done"] for frame in frames]
        firsts.add(first)
    assert len(firsts) == len(replay.buffer) - 3 * num_envs


def test_too_few_frames_for_a_slice() -> None:
    stories, replay = Stories(2, 3), make(100, batch_size=8)
    replay.extend(stub(), stories.rollout())
    with pytest.raises(ValueError, match=r"a slice is 4 frames .* 6 stored .* warm up"):
        Slices(replay, 4)(stub(), TensorDict())


def test_what_does_not_fit_is_refused() -> None:
    plain = Replay(ReplayBuffer(storage=LazyTensorStorage(10)), 4)
    for make_hook in (lambda: NStepReturns(plain, 3, GAMMA), lambda: Slices(plain, 2)):
        with pytest.raises(ValueError, match="time_major"):
            make_hook()
    with pytest.raises(ValueError, match="a batch of 10 frames"):
        Slices(make(20, batch_size=10), 3)
    scaling = RewardScaling(loc=0.0, scale=0.1, in_keys=[("next", "reward")])
    with pytest.raises(ValueError, match="without transforms"):
        Replay(ReplayBuffer(storage=LazyTensorStorage(10), transform=scaling), time_major=True)


# ------------------------------------------------------------------------- resume


def resumed(replay: Replay, capacity: int, tmp_path: Path) -> Replay:
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}"
    checkpoint.save(path, replay.state_dict())
    copy = make(capacity)
    copy.load_state_dict(checkpoint.load(path))
    return copy


@pytest.mark.parametrize("rollouts", [0, 5, 12])
def test_an_exact_resume_goes_on_along_the_episodes(rollouts: int, tmp_path: Path) -> None:
    stories, first = Stories(2, 1), make(20)
    for _ in range(rollouts):
        first.extend(stub(), stories.rollout())
    second = resumed(first, 20, tmp_path)
    for _ in range(3):
        rollout = stories.rollout()
        batches = []
        for replay in (first, second):
            replay.extend(stub(), rollout)
            torch.manual_seed(1)
            batch = replay.sample(stub(), TensorDict())
            batches.append(NStepReturns(replay, 3, GAMMA)(stub(), batch).to_dict())
        assert_same(*batches)
    assert_same(first.state_dict(), second.state_dict())


@pytest.mark.parametrize("rollouts", [5, 12])
@pytest.mark.parametrize("num_envs", [2, 3])
def test_episodes_that_were_lost_end_where_they_were(
    rollouts: int, num_envs: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also those whose order in time is lost, with another number of environments."""
    stories, replay = Stories(2, 1), make(20)
    for _ in range(rollouts):
        replay.extend(stub(), stories.rollout())
    replay = resumed(replay, 20, tmp_path)
    trainer = stub()
    trainer.collector = SimpleNamespace(restored=("exact" if num_envs != 2 else "fresh", ""))
    others = Stories(num_envs, 1, seed=1)
    for _ in range(2):
        replay.extend(trainer, others.rollout())
    told = [m for m in caplog.messages if "are of 2 environments, the coming ones of 3" in m]
    assert len(told) == (num_envs == 3)
    frames = replay.frames[replay.nth_oldest(torch.arange(len(replay.buffer)))][: -2 * num_envs]
    stored = frames["observation"].flatten().tolist()
    newest = {story[-1]["id"] for story in stories.history}
    assert newest <= set(stored)
    for frame, truncated in zip(stored, frames["next", "truncated"].flatten(), strict=True):
        cut = frame in newest or num_envs != 2
        assert truncated == (cut or stories.after(frame)[0]["truncated"])


@pytest.mark.parametrize("steps", [1, 4])
def test_frames_without_an_order_are_not_followed_along(steps: int, tmp_path: Path) -> None:
    """Neither before new ones come, for updates that are owed, nor after."""
    stories = Stories(2, steps)
    plain = Replay(ReplayBuffer(storage=LazyTensorStorage(40)))
    for _ in range(12 // steps):
        plain.extend(stub(), stories.rollout())
    replay = resumed(plain, 40, tmp_path)
    how, why = replay.restored
    assert how == "statistical"
    assert "order in time was not kept" in why
    trainer = stub()
    trainer.collector = SimpleNamespace(restored=("exact", ""))
    n_steps = NStepReturns(replay, 3, GAMMA)
    for rollouts in range(3):
        batch = n_steps(trainer, replay.sample(trainer, TensorDict()))
        old = batch["index"] < 24
        assert (batch["steps_to_next_obs"][old] == 1).all()
        assert (~old).any() == (rollouts > 0)
        replay.extend(trainer, stories.rollout())
    assert resumed(replay, 40, tmp_path).restored == ("exact", "")

"""Environments stepped one after the other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from support.environments import Goal, Tale

from trainers.environments.sync import SyncEnvs


class Closing(gym.Wrapper):
    """Notes that it was closed, and how often it was reset."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.resets = 0
        self.closed = False

    def reset(self, **given: Any) -> Any:
        self.resets += 1
        return super().reset(**given)

    def close(self) -> None:
        self.closed = True

    def double(self, number: int) -> int:
        return 2 * number + self.resets


def tales(number: int = 3) -> SyncEnvs:
    """Environments whose observations tell episode, step and seed."""
    return SyncEnvs([lambda: Closing(Tale(lengths=(5,)))] * number)


def test_masked_resets_leave_the_others() -> None:
    envs = tales()
    first, _ = envs.reset(seed=[7, 8, 9])
    assert first.tolist() == [[0, 0, 0, seed] for seed in (7, 8, 9)]
    actions = np.zeros((3, 1), np.float32)
    envs.step(actions)
    stepped = envs.step(actions)[0]
    mask = np.array([False, True, False])
    second, _ = envs.reset(seed=[17, 18, 19], options={"reset_mask": mask})
    assert second.tolist() == [[0, 2, 0, 7], [1, 0, 0, 18], [0, 2, 0, 9]]
    assert stepped.tolist() == [[0, 2, 0, seed] for seed in (7, 8, 9)]
    assert [env.resets for env in envs.envs] == [1, 2, 1]
    assert envs.step(actions)[0].tolist() == [[0, 3, 0, 7], [1, 1, 0, 18], [0, 3, 0, 9]]
    third, _ = envs.reset(seed=[27, 28, 29], options={"reset_mask": ~mask})
    assert third.tolist() == [[1, 0, 0, 27], [1, 1, 0, 18], [1, 0, 0, 29]]
    fourth, _ = envs.reset(seed=[37, 38, 39], options={"reset_mask": mask})  # without a step
    assert fourth.tolist() == [[1, 0, 0, 27], [2, 0, 0, 38], [1, 0, 0, 29]]


def test_nothing_is_reset_by_itself() -> None:
    envs = tales(1)
    envs.reset(seed=[0])
    steps = [envs.step(np.zeros((1, 1), np.float32)) for _ in range(7)]
    assert [step[0][0, 1] for step in steps] == [1, 2, 3, 4, 5, 6, 7]
    assert [bool((step[2] | step[3])[0]) for step in steps] == [False] * 4 + [True] + [False] * 2


def test_every_step_returns_arrays_of_its_own() -> None:
    envs = tales()
    kept: list[tuple[np.ndarray, np.ndarray]] = []

    def keep(*arrays: np.ndarray) -> None:
        kept.extend((array, array.copy()) for array in arrays)

    keep(envs.reset(seed=[1, 2, 3])[0])
    for number in range(6):
        keep(*envs.step(np.full((3, 1), 0.1 * number, np.float32))[:4])
        if number in (2, 4):
            mask = np.array([True, False, True])
            keep(envs.reset(seed=[4, 5, 6], options={"reset_mask": mask})[0])
    assert len(kept) == 1 + 6 * 4 + 2
    assert all(np.array_equal(array, copy) for array, copy in kept)
    for index, (array, _) in enumerate(kept):
        assert not any(np.shares_memory(array, other) for other, _ in kept[index + 1 :])


def test_an_environment_that_keeps_its_observation_is_copied() -> None:
    class Lazy(Tale):
        buffer = np.zeros(4)

        def _observation(self) -> np.ndarray:
            self.buffer[1] = self.step_number
            return self.buffer

    envs = SyncEnvs([Lazy])
    seen = [envs.reset(seed=[0])[0]]
    seen += [envs.step(np.zeros((1, 1), np.float32))[0] for _ in range(2)]
    assert [float(observation[0, 1]) for observation in seen] == [0, 1, 2]


def test_success_is_told_by_environment_and_step() -> None:
    """Two successes: of the first environment at once, of the third when it ends."""

    def make(reports: str) -> gym.Env:
        return gym.wrappers.FlattenObservation(Goal(reports, length=2))

    envs = SyncEnvs([partial(make, reports) for reports in ("success", "never", "end")])
    envs.reset(seed=[1, 2, 3])
    up = np.ones((3, 2), np.float32)
    first, second, third = (envs.step(up)[4] for _ in range(3))
    assert first["is_success"].tolist() == [True, False, False]
    assert second["is_success"].tolist() == [True, False, True]
    assert third["is_success"].tolist() == [True, False, False]
    envs.reset(seed=[1, 2, 3])
    assert envs.step(-up)[4] == {}


@pytest.mark.parametrize("spoken", [True, [True, True], np.array([1.0, 1.0])])
def test_success_in_several_parts_is_that_of_all(spoken: Any) -> None:
    class Told(Tale):
        def __init__(self, success: Any) -> None:
            super().__init__()
            self.success = success

        def step(self, action: Any) -> Any:
            return *super().step(action)[:4], {"is_success": self.success}

    some = np.array([True, False])
    envs = SyncEnvs([partial(Told, spoken), partial(Told, some)])
    envs.reset(seed=[0, 0])
    success = envs.step(np.zeros((2, 1), np.float32))[4]["is_success"]
    assert (success.dtype, success.tolist()) == (bool, [True, False])


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "HalfCheetah-v5"])
def test_it_is_gymnasium_s_vector(name: str) -> None:
    """Types as well, but for what is not read."""
    makers: list[Callable[[], gym.Env]] = [partial(gym.make, name) for _ in range(2)]
    ours = SyncEnvs(makers)
    theirs = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.DISABLED)
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.single_action_space == theirs.single_action_space
    close(ours.reset(seed=[3, 4])[0], theirs.reset(seed=[3, 4])[0])
    ours.single_action_space.seed(0)
    for number in range(30):
        actions = np.stack([ours.single_action_space.sample() for _ in range(2)])
        one, two = ours.step(actions), theirs.step(actions)
        close(one[0], two[0])
        for mine, other in zip(one[1:4], two[1:4], strict=True):
            assert mine.dtype == other.dtype
            assert np.array_equal(mine, other)
        mask = one[2] | one[3]
        mask[0] |= number == 10
        if mask.any():
            options = {"reset_mask": mask}
            seeds = [number, number + 100]
            one, two = (envs.reset(seed=seeds, options=options) for envs in (ours, theirs))
            close(one[0], two[0])
    ours.close()
    theirs.close()


def close(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.dtype == np.float32
    assert np.array_equal(ours, theirs.astype(np.float32))


def test_methods_and_the_end_reach_all() -> None:
    envs = tales(3)
    envs.reset(seed=[0, 0, 0])
    assert envs.call("double", 4) == (9, 9, 9)
    envs.close()
    assert all(env.closed for env in envs.envs)


def test_there_is_an_action_for_each() -> None:
    envs = tales(3)
    envs.reset(seed=[0, 0, 0])
    with pytest.raises(ValueError, match="shorter"):
        envs.step(np.zeros((2, 1), np.float32))

"""Environments in the trainer's conventions."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Sequence, Tuple
from helpers import env_config, register_spaces
from torchrl.data import Bounded, Categorical, Unbounded

from trainers.config import ConfigError
from trainers.envs import Envs, EpisodeRecorder

ONE = Box(-1.0, 1.0, (1,))
WIDE: dict[str, Any] = {"low": (-2.0, 0.0), "high": (4.0, 0.5)}  # Tale: 100 * its second action


@pytest.fixture
def make() -> Iterator[Callable[..., Envs]]:
    """Makes environments that are closed after the test."""
    made: list[Envs] = []

    def make_envs(*arguments: Any, **given: Any) -> Envs:
        made.append(Envs(env_config(*arguments, **given)))
        return made[-1]

    yield make_envs
    for envs in made:
        envs.close()


# --------------------------------------------------------------------- actions


@pytest.mark.parametrize(
    ("rescale", "clip", "action", "expected"),
    [
        (True, True, (-1.0, -1.0), (-2.0, 0.0)),
        (True, True, (1.0, 1.0), (4.0, 0.5)),
        (True, True, (0.0, 0.0), (1.0, 0.25)),
        (True, True, (0.5, -9.0), (2.5, 0.0)),
        (True, False, (0.5, 3.0), (2.5, 1.0)),
        (False, True, (0.5, 7.0), (0.5, 0.5)),
        (False, False, (-7.0, 7.0), (-7.0, 7.0)),
    ],
)
def test_actions_are_rescaled_and_clipped_unless_switched_off(
    make: Callable[..., Envs],
    rescale: bool,
    clip: bool,
    action: tuple[float, float],
    expected: tuple[float, float],
) -> None:
    envs = make(kwargs=WIDE, num_envs=2, rescale_actions=rescale, clip_actions=clip)
    envs.reset([0, 0])
    # The spaces of a vector environment refuse what is out of bounds only if asked to.
    _, reward, _, _ = envs.step(np.array([action, action], dtype=np.float32))
    assert reward == pytest.approx([expected[0] + 100 * expected[1]] * 2)


def test_the_spec_is_what_the_policy_may_do(make: Callable[..., Envs]) -> None:
    assert make(kwargs=WIDE).action_spec == Bounded(-1.0, 1.0, (2,))
    low, high = torch.tensor(WIDE["low"]), torch.tensor(WIDE["high"])
    assert make(kwargs=WIDE, rescale_actions=False).action_spec == Bounded(low, high, (2,))
    infinite = {"low": (-np.inf,), "high": (1.0,)}
    assert make(kwargs=infinite).action_spec == Unbounded((1,))
    assert make(register_spaces("Choice", ONE, Discrete(3))).action_spec == Categorical(3)


@pytest.mark.parametrize(
    "space",
    [Box(-1, 1, (2, 3)), Box(0, 255, (4,), np.uint8), Discrete(3), Discrete(3, start=5)],
)
def test_actions_of_any_shape_and_type_arrive(make: Callable[..., Envs], space: gym.Space) -> None:
    envs = make(register_spaces("Shapes", ONE, space), num_envs=2)
    envs.reset([0, 1])
    for _ in range(3):  # the environment refuses what its space does not contain
        envs.step(envs.action_spec.rand(torch.Size([2])).numpy())


# ---------------------------------------------------------------- observations


@pytest.mark.parametrize(
    ("space", "length"),
    [
        (ONE, 1),
        (Box(0, 255, (5,), np.uint8), 5),
        (Box(-1, 1, (2, 3)), 6),
        (Discrete(4), 4),
        (MultiDiscrete([2, 3]), 5),
        (Tuple([Discrete(2), Box(-1, 1, (3,))]), 5),
        (Dict(a=Box(-1, 1, (2, 2)), b=Discrete(3)), 7),
    ],
)
def test_observations_become_a_float_vector(
    make: Callable[..., Envs], space: gym.Space, length: int
) -> None:
    envs = make(register_spaces("Flat", space, ONE), num_envs=2)
    assert envs.num_observations == length
    observation = envs.reset([3, 4])
    assert (observation.dtype, observation.shape) == (torch.float32, (2, length))
    for env, seed in enumerate((3, 4)):
        space.seed(seed)
        expected = gym.spaces.flatten(space, space.sample())
        assert observation[env].tolist() == pytest.approx(np.asarray(expected).tolist())


def test_observations_are_not_overwritten_by_the_next_step(make: Callable[..., Envs]) -> None:
    envs = make()
    first = envs.reset([0])
    kept = first.clone()
    envs.step(np.zeros((1, 1), np.float32))
    assert torch.equal(first, kept)


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("given", "key", "match"),
    [
        ({"env_id": "HalfCheeta-v5"}, "env.id", "did you mean HalfCheetah-v5"),
        ({"env_id": "HalfCheetah-v99"}, "env.id", "HalfCheetah"),
        ({"env_id": "no such/id!"}, "env.id", "no such/id!"),
        ({"env_id": "nosuchmodule:Env-v0"}, "env.id", "nosuchmodule"),
        ({"kwargs": {"lenghts": 3}}, "env.kwargs", "lenghts"),
        ({"env_id": "Sequence"}, "env.id", "a vector of numbers"),
        ({"env_id": "Pairs"}, "env.id", "a Box or Discrete action space"),
    ],
)
@pytest.mark.parametrize("backend", ["sync", "async"])
def test_what_cannot_be_used_is_a_config_error(
    given: dict[str, Any], key: str, match: str, backend: str
) -> None:
    if given.get("env_id") == "Sequence":
        given = {"env_id": register_spaces("Sequence", Sequence(Discrete(2)), ONE)}
    if given.get("env_id") == "Pairs":
        given = {"env_id": register_spaces("Pairs", ONE, MultiDiscrete([2, 2]))}
    with pytest.raises(ConfigError, match=match) as caught:
        Envs(env_config(**given, backend=backend))
    assert caught.value.key == key


def test_a_package_that_an_environment_lacks_is_named() -> None:
    def needs_more() -> gym.Env:
        raise gym.error.DependencyNotInstalled('run `pip install "gymnasium[other]"`')

    gym.register("tests/Lacking-v0", needs_more)
    with pytest.raises(ConfigError, match=r"pip install \"gymnasium\[other\]\"") as caught:
        Envs(env_config("tests/Lacking-v0"))
    assert "did you mean" not in str(caught.value)


# --------------------------------------------------------------- open episodes


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_open_episodes_can_be_replayed(make: Callable[..., Envs], backend: str) -> None:
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (60, 3, 1)).astype(np.float32)
    envs = make("Pendulum-v1", num_envs=3, backend=backend)
    envs.reset([5, 6, 7])
    for action in actions[:20]:
        envs.step(action)
    observation = envs.reset([8, 9, 10], np.array([False, True, False]))  # a shorter episode
    assert [len(episode["actions"]) for episode in envs.open_episodes()] == [20, 0, 20]
    for action in actions[20:30]:
        observation = envs.step(action)[0]

    other = make("Pendulum-v1", num_envs=3, backend=backend)
    assert torch.equal(other.replay(envs.open_episodes()), observation)
    for action in actions[30:]:
        here, there = envs.step(action), other.step(action)
        assert torch.equal(here[0], there[0])
        assert here[1].tolist() == there[1].tolist()
    assert str(other.open_episodes()) == str(envs.open_episodes())


def test_an_episode_without_end_is_not_remembered() -> None:
    env = EpisodeRecorder(gym.make("tests/Tale-v0", lengths=(100,)), index=0, limit=5)
    env.reset(seed=3)
    for _ in range(5):
        env.step([0.5])
    assert env.episode()["actions"].tolist() == [[0.5]] * 5
    env.step([0.5])
    assert env.episode() == {"seed": 3, "actions": None}
    env.reset(seed=4)
    env.step([0.25])
    assert env.episode()["actions"].tolist() == [[0.25]]


def test_actions_are_remembered_as_they_were() -> None:
    env = EpisodeRecorder(gym.make("tests/Tale-v0"), index=0)
    env.reset(seed=3)
    action = np.array([0.5])
    env.step(action)
    action[:] = 0.0
    assert env.episode()["actions"].tolist() == [[0.5]]


# --------------------------------------------------------------------- workers


def test_signals_to_the_trainer_s_group_do_not_reach_its_workers(
    make: Callable[..., Envs],
) -> None:
    """Ctrl-C is for the trainer, which asks the workers to end when it has saved the run."""
    before = (os.getpgrp(), signal.getsignal(signal.SIGINT))
    envs = make(num_envs=2, backend="async")
    envs.reset([0, 0])
    assert all(os.getpgid(process.pid) != before[0] for process in envs._env.processes)
    assert (os.getpgrp(), signal.getsignal(signal.SIGINT)) == before


def test_a_dead_worker_does_not_block_the_end(make: Callable[..., Envs]) -> None:
    envs = make(num_envs=2, backend="async")
    envs.reset([0, 0])
    envs._env.processes[0].kill()
    envs._env.processes[0].join()
    begin = time.perf_counter()
    envs.close()
    assert time.perf_counter() - begin < 5
    assert not any(process.is_alive() for process in envs._env.processes)

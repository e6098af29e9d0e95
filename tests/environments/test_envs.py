"""Environments in the trainer's conventions."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Sequence, Space, Text, Tuple
from support.environments import env_config, register_spaces
from torchrl.data import Bounded, Categorical, Unbounded

from trainers.config import ConfigError, TrainConfig
from trainers.config.composer import CONFIG_DIR, composing, plain
from trainers.environments.envs import Envs
from trainers.environments.single import EpisodeRecorder
from trainers.saving import checkpoint

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
    assert (observation.dtype, observation.shape) == (np.float32, (2, length))
    for env, seed in enumerate((3, 4)):
        space.seed(seed)
        expected = gym.spaces.flatten(space, space.sample())
        assert observation[env].tolist() == pytest.approx(np.asarray(expected).tolist())


def test_observations_are_not_overwritten_by_the_next_step(make: Callable[..., Envs]) -> None:
    envs = make()
    first = envs.reset([0])
    kept = first.copy()
    envs.step(np.zeros((1, 1), np.float32))
    assert np.array_equal(first, kept)


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_the_parts_of_an_observation_follow_one_another_by_name(
    make: Callable[..., Envs], backend: str
) -> None:
    envs = make("tests/Goal-v0", num_envs=2, backend=backend)
    assert envs.num_observations == 9
    first = envs.reset([3, 4])
    goals = [gym.make("tests/Goal-v0").reset(seed=seed)[0]["desired_goal"] for seed in (3, 4)]
    action = np.array([[0.25, -0.5], [1.0, -1.0]], np.float32)
    following = envs.step(action)[0]
    for env, goal in enumerate(goals):
        assert first[env].tolist() == [0, 0, *goal, 0, 0, 1, 0, 0]
        assert following[env].tolist() == [*action[env], *goal, *action[env], 0, 1, 0]


def test_parts_in_an_order_of_their_own_keep_it(make: Callable[..., Envs]) -> None:
    space = Dict([("b", Box(2, 3, (1,))), ("a", Box(0, 1, (1,)))])
    (observation,) = make(register_spaces("Pairs", space, ONE)).reset([0])
    assert observation[0] >= 2
    assert observation[1] <= 1


PIXELS = Box(0, 255, (8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("space", "part"),
    [
        (PIXELS, "observation is an image, Box"),
        (Box(0, 255, (8, 8), np.uint8), "observation is an image, Box"),
        (Dict(a=ONE, camera=PIXELS), r"observation\['camera'\] is an image, Box"),
        (Dict(a=Tuple([ONE, Dict(b=PIXELS)])), r"observation\['a'\]\[1\]\['b'\] is an image"),
        (Dict(a=ONE, words=Text(5)), r"observation\['words'\] is Text"),
        (Tuple([ONE, Sequence(ONE)]), r"observation\[1\] is Sequence"),
    ],
)
@pytest.mark.parametrize("backend", ["sync", "async"])
def test_a_part_that_is_no_vector_is_named(space: Space[Any], part: str, backend: str) -> None:
    config = env_config(register_spaces("Unfit", space, ONE), backend=backend)
    with pytest.raises(ConfigError, match=f"a vector of numbers; {part}.*env.wrappers") as caught:
        Envs(config)
    assert caught.value.key == "env.id"


# --------------------------------------------------------------------- success


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_what_is_told_of_success(make: Callable[..., Envs], backend: str) -> None:
    def told(reports: str) -> list[list[bool] | None]:
        envs = make(
            "tests/Goal-v0", kwargs={"reports": reports, "length": 3}, num_envs=3, backend=backend
        )
        assert envs.success is None
        envs.reset([0, 1, 2])
        steps = []
        for action in (-1.0, 1.0, 1.0):  # the goals are between -1 and 1
            envs.step(np.array([[action] * 2, [1.0] * 2, [-1.0] * 2], np.float32))
            steps.append(None if envs.success is None else envs.success.tolist())
        return steps

    # The first ends where no goal is above it, the second is there at once, the third never.
    always = told("always")
    assert [step[1:] for step in always if step] == [[True, False]] * 3
    assert [step[0] for step in always if step][::2] == [False, True]
    assert told("success") == always
    assert told("end") == [None, None, always[-1]]
    assert told("never") == [None] * 3


@pytest.mark.parametrize(
    "kind", [bool, int, float, np.bool_, np.float32, lambda yes: np.array([yes], np.float32)]
)
def test_success_of_any_type(make: Callable[..., Envs], kind: Callable[[bool], Any]) -> None:
    class Told(gym.Wrapper):
        def step(self, action: Any) -> Any:
            return *self.env.step(action)[:4], {"is_success": kind(action[0] > 0)}

    gym.registry.pop("tests/Told-v0", None)
    gym.register("tests/Told-v0", lambda: Told(gym.make("tests/Tale-v0")), disable_env_checker=True)
    envs = make("tests/Told-v0", num_envs=2)
    envs.reset([0, 0])
    envs.step(np.array([[0.5], [-0.5]], np.float32))
    assert envs.success is not None
    assert envs.success.dtype == bool
    assert envs.success.tolist() == [True, False]


# --------------------------------------------------------------------- presets

SHIPPED = sorted(path.stem for path in CONFIG_DIR.glob("env/[A-Z]*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_environment_steps_and_is_replayed(name: str) -> None:
    if name.startswith("LunarLander"):
        pytest.importorskip("Box2D", reason="the extra box2d: it has wheels for x86_64 only")
    with composing() as composer:
        config = TrainConfig.from_dict(plain(composer.compose([f"env={name}"]))).env
    assert config.name == name
    if config.is_game:
        pytest.importorskip("ale_py", reason="the extra atari is not installed")
    torch.manual_seed(0)
    envs, other = Envs(config, 2), Envs(config, 2)
    envs.reset([5, 6])
    for _ in range(12):
        action = envs.action_spec.rand(torch.Size([2])).numpy()
        observation, reward, terminated, truncated = envs.step(action)
        assert np.isfinite(observation).all()
        assert np.isfinite(reward).all()
        if (done := terminated | truncated).any():
            observation = envs.reset([7, 8], done)
    assert np.array_equal(other.replay(envs.open_episodes()), observation)
    envs.close()
    other.close()


def test_the_continuous_lander_takes_two_numbers(make: Callable[..., Envs]) -> None:
    pytest.importorskip("Box2D", reason="the extra box2d: it has wheels for x86_64 only")
    assert make("LunarLander-v3").action_spec == Categorical(4)
    continuous = make("LunarLander-v3", kwargs={"continuous": True})
    assert continuous.action_spec == Bounded(-1.0, 1.0, (2,))


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


def test_without_box2d_its_extra_is_named_and_the_others_work(
    make: Callable[..., Envs], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "Box2D", None)
    with pytest.raises(ConfigError, match=r"extra box2d: pip install .*'\.\[box2d\]'") as caught:
        Envs(env_config("LunarLander-v3"))
    assert caught.value.key == "env.id"
    make("CartPole-v1").reset([0])


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
    assert np.array_equal(other.replay(envs.open_episodes()), observation)
    for action in actions[30:]:
        here, there = envs.step(action), other.step(action)
        assert np.array_equal(here[0], there[0])
        assert here[1].tolist() == there[1].tolist()
    assert str(other.open_episodes()) == str(envs.open_episodes())


def test_an_episode_without_end_is_not_remembered() -> None:
    env = EpisodeRecorder(gym.make("tests/Tale-v0", lengths=(100,)), index=0, limit=5)
    env.reset(seed=3)
    for _ in range(5):
        env.step([0.5])
    assert env.episode()["actions"].tolist() == [[0.5]] * 5
    env.step([0.5])
    assert env.episode()["actions"] is None
    env.reset(seed=4)
    env.step([0.25])
    assert env.episode()["actions"].tolist() == [[0.25]]


def test_an_episode_is_told_by_its_rewards_and_ends() -> None:
    def outcomes(*actions: float, length: int = 9, but_last: bool = False) -> int:
        env = EpisodeRecorder(gym.make("tests/Tale-v0", lengths=(length,)), index=0)
        env.reset(seed=3)
        for action in actions:
            env.step([action])
        return env.episode(but_last)["outcomes"]

    told = outcomes(0.5, 0.25)
    assert told == outcomes(0.5, 0.25)
    assert told == outcomes(0.5, 0.25, 0.125, but_last=True)
    others = [outcomes(0.25, 0.5), outcomes(0.5, 0.25, 0.0), outcomes(0.5, 0.25, length=2)]
    assert told not in others
    assert outcomes() == outcomes(0.5, but_last=True)  # nothing can be told yet


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


# ----------------------------------------------------- environments that know their state


class Drift(gym.Env):
    """Its position depends on what happened in every episode since it was made."""

    observation_space = Box(-np.inf, np.inf, (2, 1))
    action_space = Box(-1, 1, (1,))

    def __init__(self) -> None:
        self.position = 0.0
        self.loads = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        self.position += float(action[0]) + self.np_random.normal()
        return self._observation(), self.position, False, False, {}

    def _observation(self) -> np.ndarray:
        return np.array([[self.position], [2 * self.position]], np.float32)

    def state_dict(self) -> dict[str, Any]:
        rng = self.np_random.bit_generator.state
        return {"position": self.position, "rng": rng, "array": np.full(3, self.position)}

    def load_state_dict(self, state: dict[str, Any]) -> np.ndarray:
        self.loads += 1
        assert state["array"].tolist() == [state["position"]] * 3
        self.position = state["position"]
        self.np_random.bit_generator.state = state["rng"]
        return self._observation()


gym.register("tests/Drift-v0", Drift, max_episode_steps=9, disable_env_checker=True)


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_a_state_that_an_environment_knows_is_used(
    make: Callable[..., Envs], backend: str, tmp_path: Path
) -> None:
    envs, other = (make("tests/Drift-v0", num_envs=2, backend=backend) for _ in range(2))
    action = np.array([[0.5], [-0.5]], np.float32)
    envs.reset([1, 2])
    for _ in range(9):
        observation = envs.step(action)[0]
    envs.reset([3, 4])
    for _ in range(4):
        observation = envs.step(action)[0]
    checkpoint.save(tmp_path / "c", {"episodes": envs.open_episodes()})
    assert np.array_equal(other.replay(checkpoint.load(tmp_path / "c")["episodes"]), observation)
    for step in range(5, 10):
        here, there = envs.step(action), other.step(action)
        assert np.array_equal(here[0], there[0])
        assert here[3].tolist() == there[3].tolist() == [step == 9] * 2
    assert [len(episode["actions"]) for episode in other.open_episodes()] == [9, 9]
    assert str(other.open_episodes()) == str(envs.open_episodes())


def test_one_that_no_seed_brings_back_and_that_is_too_long_to_be_remembered() -> None:
    one, two = (EpisodeRecorder(gym.make("tests/Drift-v0"), index=0, limit=3) for _ in range(2))
    one.reset(seed=3)
    for _ in range(5):
        observation = one.step([0.5])[0]
    episode = one.episode()
    assert episode["actions"] is None
    assert np.array_equal(two.replay_episode([episode]), observation)
    assert np.array_equal(one.step([0.1])[0], two.step([0.1])[0])


@pytest.mark.parametrize(
    "wrapper", [gym.wrappers.NormalizeReward, gym.wrappers.NormalizeObservation]
)
def test_a_wrapper_with_a_state_of_its_own_is_replayed(wrapper: Any) -> None:
    env = EpisodeRecorder(wrapper(gym.make("tests/Drift-v0")), index=0)
    env.reset(seed=3)
    assert "state" not in env.episode()
    plain = EpisodeRecorder(gym.make("tests/Drift-v0"), index=0)
    plain.reset(seed=3)
    assert "state" in plain.episode()


@pytest.mark.parametrize("reward", [np.array([1.0]), None, "much"])
def test_a_reward_that_is_no_number_is_named(reward: Any) -> None:
    """Gymnasium looks at it in the first step only, and then just warns."""

    class Rewarding(gym.Env):
        observation_space, action_space = ONE, ONE

        def reset(self, **given: Any) -> Any:
            return np.zeros(1, np.float32), {}

        def step(self, action: Any) -> Any:
            return np.zeros(1, np.float32), reward, False, False, {}

    env = EpisodeRecorder(Rewarding(), 0)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"a reward that is a number .*Rewarding.*, got "):
        env.step(np.zeros(1, np.float32))

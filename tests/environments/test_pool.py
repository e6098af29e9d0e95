"""EnvPool in place of Gymnasium: the same tasks, and its own ways with resets kept out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from support.environments import env_config
from support.states import assert_same
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Bounded, Categorical

from trainers.collection.collectors import GymCollector
from trainers.config import ConfigError
from trainers.config.envpool import SAME_TASKS
from trainers.environments.envs import Envs
from trainers.environments.pool import EnvPoolEnvs
from trainers.saving import checkpoint
from trainers.saving.restoring import resumed_exactly

pytest.importorskip("envpool", reason="the extra envpool is not installed")

Array = np.ndarray
Make = Callable[..., GymCollector]


class Push:
    """Pushes the cart to the right, or to a side drawn anew; or leaves the joints alone."""

    def __init__(self, envs: Envs, always: bool) -> None:
        self.spec = envs.action_spec
        self.always = always

    def __call__(self, data: TensorDictBase) -> TensorDictBase:
        action = self.spec.rand(data.batch_size)
        return data.set("action", torch.ones_like(action) if self.always else action)


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes collectors from EnvPool that are closed after the test."""
    made: list[GymCollector] = []

    def make_collector(env_id: str = "CartPole-v1", **given: Any) -> GymCollector:
        keys = ("num_envs", "max_episode_steps", "backend")
        env = {key: given.pop(key) for key in keys if key in given}
        envs = Envs(env_config(env_id, **({"backend": "envpool"} | env)))
        policy = Push(envs, given.pop("always", False))
        made.append(GymCollector(envs, policy, **({"seed": 3, "stagger": False} | given)))
        return made[-1]

    torch.manual_seed(0)
    yield make_collector
    for collector in made:
        collector.shutdown()


def take(collector: GymCollector, rollouts: int) -> TensorDict:
    """So many rollouts, put together along the time."""
    return torch.cat(list(islice(collector, rollouts)), 1)


# ------------------------------------------------------------------- the same tasks

# Steps after which roundings have grown too far. Those with a free joint differ at once by the
# version of MuJoCo: EnvPool 1.2.5 brings 3.6.0, with which Gymnasium's agree in every bit.
FREE = {"Ant-v5": 3, "Humanoid-v5": 3, "HumanoidStandup-v5": 3}
STEPS = {"HalfCheetah-v5": 20} | FREE
ENDLESS = {"HalfCheetah-v5", "Pusher-v5", "Reacher-v5", "Swimmer-v5", *FREE}  # within these steps


@pytest.mark.parametrize("env_id", SAME_TASKS)
def test_steps_rewards_and_ends_are_gymnasiums(env_id: str) -> None:
    number = 4
    envs = EnvPoolEnvs(env_config(env_id, backend="envpool"), number)
    random = np.random.default_rng(0)
    actions, pooled = [], []
    first = observation = envs.reset(seed=range(number))[0]
    for _ in range(STEPS.get(env_id, 130)):
        actions.append(_explore(env_id, envs.single_action_space, observation, random))
        pooled.append(envs.step(actions[-1]))
        observation = pooled[-1][0]
    tolerance = 0.1 if env_id in FREE else 1e-5
    env = gym.make(env_id)
    for index in range(number):
        env.reset(seed=0)
        _put(env.unwrapped, first[index])
        for action, outcome in zip(actions, pooled, strict=True):
            following, reward, terminated, truncated, _ = env.step(action[index])
            expected, expected_reward, *ends = (each[index] for each in outcome[:4])
            assert np.allclose(following, expected, rtol=1e-5, atol=tolerance)
            assert reward == pytest.approx(expected_reward, rel=1e-5, abs=tolerance)
            assert [terminated, truncated] == ends
            if terminated or truncated:
                break
    assert any(outcome[2].any() for outcome in pooled) == (env_id not in ENDLESS)


def _explore(env_id: str, space: Any, seen: Array, random: np.random.Generator) -> Array:
    """Random actions; where they would lead nowhere, such as swing a mass higher and higher."""
    if env_id == "Acrobot-v1":
        return 1 - np.sign(seen[:, 4]).astype(int)
    if env_id == "MountainCar-v0":
        return 1 + np.sign(seen[:, 1]).astype(int)
    if env_id == "MountainCarContinuous-v0":
        return np.sign(seen[:, 1:] + 1e-9)
    if isinstance(space, gym.spaces.Discrete):
        return random.integers(0, space.n, len(seen))
    return random.uniform(space.low, space.high, (len(seen), *space.shape)).astype(np.float32)


def _put(env: Any, seen: Array) -> None:
    """Bring one of Gymnasium's environments to where ``seen`` is what it observes."""
    name = env.spec.id.rpartition("-")[0]
    if name == "Acrobot":
        env.state = np.array([*np.arctan2(seen[1:4:2], seen[0:4:2]), *seen[4:]])
    elif not hasattr(env, "set_state"):
        env.state = np.array(seen, dtype=np.float64)
    else:
        positions, speeds = env.model.nq, env.model.nv
        if name == "InvertedDoublePendulum":
            position = [seen[0], *np.arctan2(seen[1:3], seen[3:5])]
            speed = seen[5:8]
        elif name == "Reacher":
            env.goal = seen[4:6]
            position = [*np.arctan2(seen[2:4], seen[0:2]), *env.goal]
            speed = [*seen[6:8], 0.0, 0.0]
        elif name == "Pusher":
            env.set_state(np.zeros(positions), np.zeros(speeds))
            moved = seen[17:] - env._get_obs()[17:]
            # The object slides along y, then x; the goal along x, then y.
            position = [*seen[:7], moved[1], moved[0], moved[4], moved[3]]
            speed = [*seen[7:14], *np.zeros(4)]
        else:  # all but where it is on the ground, of which nothing depends
            hidden = {"InvertedPendulum": 0, "Hopper": 1, "HalfCheetah": 1, "Walker2d": 1}
            hidden = hidden.get(name, 2)
            position = [*np.zeros(hidden), *seen[: positions - hidden]]
            speed = seen[positions - hidden :][:speeds]
        env.set_state(np.array(position), np.array(speed))
    assert np.allclose(_observed(env), seen, atol=1e-6)


def _observed(env: Any) -> Any:
    for name in ("_get_obs", "_get_ob"):
        if hasattr(env, name):
            return getattr(env, name)()
    return env.state


@pytest.mark.parametrize("env_id", SAME_TASKS)
def test_episodes_begin_as_gymnasiums_do(env_id: str) -> None:
    number = 150
    pooled, _ = EnvPoolEnvs(env_config(env_id, backend="envpool"), number).reset(seed=range(number))
    env = gym.make(env_id)
    plain = np.stack([env.reset(seed=seed)[0] for seed in range(number)])
    spread = plain.std(0)
    assert np.allclose(pooled.std(0), spread, rtol=0.3, atol=1e-6)
    limit = 5 * spread * np.sqrt(2 / number) + 1e-6
    assert (np.abs(pooled.mean(0) - plain.mean(0)) < limit).all()


@pytest.mark.parametrize("env_id", SAME_TASKS)
def test_spaces_and_time_limits_are_gymnasiums(env_id: str) -> None:
    envs, plain = (Envs(env_config(env_id, backend=backend)) for backend in ("envpool", "sync"))
    assert envs.action_spec == plain.action_spec
    assert envs.num_observations == plain.num_observations
    assert envs.max_episode_steps == plain.max_episode_steps
    assert envs.reset([0]).shape == plain.reset([0]).shape
    plain.close()


def test_an_environment_of_a_plugin_under_the_same_name_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = gym.spec("tests/Tale-v0")
    monkeypatch.setitem(gym.registry, "CartPole-v1", spec)
    with pytest.raises(ConfigError, match="a plugin made it") as caught:
        Envs(env_config("CartPole-v1", backend="envpool"))
    assert caught.value.key == "env.id"


# ----------------------------------------------------------------- what is stored


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("always", [False, True])
@pytest.mark.parametrize("steps", [1, 7])
def test_every_frame_is_a_step_of_gymnasiums_cart(
    make: Make, overlap: bool, always: bool, steps: int
) -> None:
    """From what was observed, the action leads to what is stored: no reset is among them."""
    number, limit = 3, 10
    collector = make(
        num_envs=number,
        max_episode_steps=limit,
        overlap=overlap,
        always=always,
        frames_per_batch=number * steps,
    )
    data = take(collector, 84 // steps)
    assert data.shape == (number, 84)
    assert collector.frames == number * 84
    env: Any = gym.make("CartPole-v1").unwrapped
    env.reset(seed=0)
    ends = set()
    for frames in data:
        step = 0
        expected = None  # the first observation of an episode is any of those it may begin with
        for frame in frames:
            step += 1
            observed, after = frame["observation"], frame["next"]
            assert torch.equal(observed, expected) if step > 1 else (observed.abs() <= 0.05).all()
            env.state, env.steps_beyond_terminated = observed.double().numpy(), None
            following, reward, terminated, _, _ = env.step(int(frame["action"]))
            assert np.allclose(following, after["observation"], atol=1e-5)
            assert after["reward"].tolist() == [reward]
            assert after["terminated"].tolist() == [terminated]
            assert after["truncated"].tolist() == [step == limit]
            assert after["done"].tolist() == [terminated or step == limit]
            expected = after["observation"]
            if after["done"]:
                ends.add((terminated, step == limit))
                step = 0
    assert ends >= ({(True, True), (True, False)} if always else {(False, True)})


def test_first_episodes_are_cut_and_the_others_are_not(make: Make) -> None:
    collector = make("HalfCheetah-v5", num_envs=4, max_episode_steps=8, stagger=True)
    data = take(collector, 24)
    for env, (done, terminated) in enumerate(
        zip(data["next", "done"], data["next", "terminated"], strict=True)
    ):
        first = 2 * (env + 1)
        assert done.flatten().nonzero().flatten().tolist() == list(range(first - 1, 24, 8))
        assert not terminated.any()


def test_an_environment_that_is_not_reset_goes_on(make: Make) -> None:
    envs = make(num_envs=3).envs
    envs.reset([0, 1, 2])
    observation = envs.step(np.ones(3, dtype=np.int64))[0]
    mask = np.array([False, True, False])
    after = envs.reset([3, 4, 5], mask)
    assert (after == observation).all(1).tolist() == (~mask).tolist()
    assert np.array_equal(envs.reset([6, 7, 8], np.zeros(3, bool)), after)
    changed = envs.reset([9, 10, 11]) != after
    assert changed.any(1).all()


def test_nothing_is_overwritten_by_later_steps() -> None:
    envs = EnvPoolEnvs(env_config("HalfCheetah-v5", backend="envpool"), 3)
    told, copies = [], []

    def tell(*arrays: Array) -> None:
        told.extend(arrays)
        copies.extend(each.copy() for each in arrays)

    tell(envs.reset(seed=[0, 1, 2])[0])
    for step in range(60):
        tell(*envs.step(np.full((3, 6), step % 3 - 1.0, np.float32))[:4])
        tell(envs.reset(seed=[0, 0, 0], options={"reset_mask": np.arange(3) == step % 3})[0])
    assert all(np.array_equal(each, copy) for each, copy in zip(told, copies, strict=True))


@pytest.mark.parametrize(
    ("env_id", "spec"),
    [("HalfCheetah-v5", Bounded(-1.0, 1.0, (6,))), ("CartPole-v1", Categorical(2))],
)
def test_rollouts_are_float32(make: Make, env_id: str, spec: Any) -> None:
    collector = make(env_id, num_envs=2)
    assert collector.envs.action_spec == spec
    data = take(collector, 3)
    for key in ("observation", ("next", "observation"), ("next", "reward")):
        assert data[key].dtype == torch.float32
    assert ("next", "success") not in data.keys(include_nested=True)


# --------------------------------------------------------------------------- seeds


def test_the_seed_decides(make: Make) -> None:
    one, same, other = (
        take(make(num_envs=2, seed=seed, always=True), 30) for seed in (2**32 - 1, 2**32 - 1, 4)
    )
    assert_same(same.to_dict(), one.to_dict())
    for beginnings in (other, one.flip(0)):
        assert not torch.equal(beginnings["observation"][:, 0], one["observation"][:, 0])


# -------------------------------------------------------------------------- resume


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("steps", [0, 5])
def test_a_resume_goes_on_with_other_episodes_and_says_so(
    make: Make, overlap: bool, steps: int, tmp_path: Path
) -> None:
    given = {"num_envs": 2, "overlap": overlap, "always": True}
    first, second = make(**given), make(**given)
    before = list(islice(first, steps))
    checkpoint.save(tmp_path / "c", first.state_dict())
    second.load_state_dict(checkpoint.load(tmp_path / "c"))
    data = take(second, 20)
    assert second.frames == 2 * (steps + 20)
    assert (second.restored[0] == "exact") == (steps == 0)
    assert ("EnvPool cannot replay episodes" in second.restored[1]) == (steps > 0)
    if steps:
        assert (data["observation"][:, 0].abs() <= 0.05).all()
        assert not torch.equal(data["observation"][:, 0], before[0]["observation"][:, 0])
    else:
        assert_same(data.to_dict(), take(first, 20).to_dict())


@pytest.mark.parametrize("backends", [("sync", "envpool"), ("envpool", "sync")])
def test_a_run_can_go_on_by_another_backend(make: Make, backends: tuple[str, str]) -> None:
    first, second = (make(num_envs=2, backend=backend) for backend in backends)
    take(first, 5)
    second.load_state_dict(first.state_dict())
    assert not resumed_exactly(second)
    assert (take(second, 3)["observation"][:, 0].abs() <= 0.05).all()

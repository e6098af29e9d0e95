"""Observations and rewards are brought to one scale."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from support.algorithms import tiny
from support.doubles import stub
from support.environments import env_config, register_spaces
from support.states import assert_same
from tensordict import TensorDict

from trainers.build import build
from trainers.hooks import ScaleReward, UpdateNormalizer
from trainers.networks.normalization import RunningNorm
from trainers.saving import checkpoint

GAMMA = 0.9


def rollouts(num_envs: int, steps: int, number: int) -> list[TensorDict]:
    """Random rewards; an episode ends in every fifth step or so."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for _ in range(number):
        shape = (num_envs, steps, 1)
        following = {
            "reward": 10 * torch.randn(shape, generator=generator) + 3,
            "done": torch.rand(shape, generator=generator) < 0.2,
        }
        made.append(TensorDict({"next": TensorDict(following, shape[:2])}, shape[:2]))
    return made


def slow_reference(
    rewards: list[np.ndarray], dones: list[np.ndarray], clip: float
) -> list[np.ndarray]:
    """The scaled rewards, one frame after the other, with all returns in a list."""
    open_returns = np.zeros(len(rewards[0]))
    returns, scaled = [], []
    for reward, done in zip(rewards, dones, strict=True):
        for step in range(reward.shape[1]):
            for env in range(len(open_returns)):
                open_returns[env] = GAMMA * open_returns[env] + reward[env, step]
                returns.append(open_returns[env])
                if done[env, step]:
                    open_returns[env] = 0.0
        scaled.append(np.clip(reward / np.sqrt(np.var(returns) + 1e-8), -clip, clip))
    return scaled


def raw(made: list[TensorDict]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Rewards and dones, ``[num_envs, steps]``."""
    rewards = [r["next", "reward"].squeeze(-1).double().numpy().copy() for r in made]
    return rewards, [r["next", "done"].squeeze(-1).numpy() for r in made]


@pytest.mark.parametrize(("num_envs", "steps"), [(1, 16), (3, 7), (4, 1)])
@pytest.mark.parametrize("clip", [10.0, 0.5])
def test_rewards_are_scaled_as_by_a_slow_loop(num_envs: int, steps: int, clip: float) -> None:
    made = rollouts(num_envs, steps, number=5)
    expected = slow_reference(*raw(made), clip=clip)
    assert sum(r["next", "done"].sum() for r in made) > 2
    hook = ScaleReward(GAMMA, clip)
    for rollout, reward in zip(made, expected, strict=True):
        scaled = hook(stub(), rollout)["next", "reward"]
        assert scaled.dtype == torch.float32
        np.testing.assert_allclose(scaled.squeeze(-1).numpy(), reward, rtol=1e-5)


def test_rewards_in_float64_are_scaled_alike() -> None:
    """What the open episodes brought before is no part of the reward."""
    made = rollouts(2, 7, number=3)
    expected = slow_reference(*raw(made), clip=10.0)
    hook = ScaleReward(GAMMA)
    for rollout, reward in zip(made, expected, strict=True):
        rollout["next", "reward"] = rollout["next", "reward"].double()
        given = rollout["next", "reward"]
        before = given.clone()
        scaled = hook(stub(), rollout)["next", "reward"]
        assert scaled.dtype == torch.float64
        np.testing.assert_allclose(scaled.squeeze(-1).numpy(), reward, rtol=1e-5)
        assert torch.equal(given, before)


def test_a_single_environment_needs_no_dimension() -> None:
    made = rollouts(1, 16, number=3)
    expected = slow_reference(*raw(made), clip=10.0)
    hook = ScaleReward(GAMMA)
    for rollout, reward in zip(made, expected, strict=True):
        scaled = hook(stub(), rollout[0])["next", "reward"]
        np.testing.assert_allclose(scaled.squeeze(-1).numpy(), reward[0], rtol=1e-5)


def resumed(exactly: bool) -> Any:
    """A trainer whose environments went on where they were, or did not."""
    trainer = stub()
    trainer.collector = SimpleNamespace(restored=("exact" if exactly else "fresh", ""))
    return trainer


@pytest.mark.parametrize("exactly", [True, False])
def test_open_episodes_outlive_a_resume_if_the_environments_do(
    exactly: bool, tmp_path: Path
) -> None:
    one, two = rollouts(2, 3, number=2)
    two["next", "done"][:] = False
    first = ScaleReward(GAMMA)
    first(stub(), one)
    checkpoint.save(tmp_path / "c", first.state_dict())
    second = ScaleReward(GAMMA)
    second.load_state_dict(checkpoint.load(tmp_path / "c"))
    straight = first(stub(), two.clone())["next", "reward"]
    assert torch.equal(second(resumed(exactly), two.clone())["next", "reward"], straight) == exactly


def test_another_number_of_environments_begins_anew() -> None:
    (many,), (few,) = rollouts(4, 8, number=1), rollouts(1, 8, number=1)
    hook = ScaleReward(GAMMA)
    hook(stub(), many)
    hook(stub(), few)
    assert float(hook.statistics.count) == 4 * 8 + 8


def test_the_normaliser_sees_every_observation_once() -> None:
    norm = RunningNorm([2])
    hook = UpdateNormalizer(norm)
    seen = [torch.randn(3, 5, 2) for _ in range(4)]
    for observation in seen:
        hook(stub(), TensorDict({"observation": observation}, [3, 5]))
    every = torch.cat([o.reshape(-1, 2) for o in seen]).double().numpy()
    assert float(norm.count) == 60
    np.testing.assert_allclose(norm.mean.numpy(), every.mean(0), rtol=1e-9)
    np.testing.assert_allclose(norm.var.numpy(), every.var(0), rtol=1e-9)


@pytest.mark.parametrize("name", ["ppo", "a2c", "reinforce", "sac"])
def test_an_environment_may_observe_nothing(name: str, tmp_path: Path) -> None:
    nothing, action = gym.spaces.Box(-1, 1, (0,)), gym.spaces.Box(-1, 1, (1,))
    env_id = register_spaces(f"Nothing_{name}", nothing, action)
    trainer = build(tiny(name, env_config(env_id))).trainer
    trainer.train()
    assert trainer.updates > 0
    trainer.save(tmp_path / "c")
    again = build(tiny(name, env_config(env_id))).trainer
    again.load(tmp_path / "c")
    again.collector.shutdown()
    assert_same(again.state_dict()["phases"], trainer.state_dict()["phases"])

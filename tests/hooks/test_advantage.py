"""Advantages and value targets, against a loop over single frames."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.advantages import slow_advantage
from support.doubles import stub
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn

from trainers.algorithms.on_policy import make_value_estimator
from trainers.config import PPOConfig
from trainers.hooks import Advantage, NormalizeAdvantage, first_epoch

KINDS = ("gae", "td_lambda", "td1", "td0")


def critic() -> TensorDictModule:
    """A value network that is anything but linear."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    return TensorDictModule(net, ["observation"], ["state_value"])


def rollout(num_envs: int = 2, steps: int = 12) -> TensorDict:
    """Episodes that end in the middle, in every way; their last observations are their own."""
    torch.manual_seed(1)
    shape = [num_envs, steps]
    observation = torch.randn(*shape, 3)
    terminated, truncated = (torch.zeros(*shape, 1, dtype=torch.bool) for _ in range(2))
    terminated[0, 3] = truncated[0, 7] = truncated[-1, 1] = truncated[-1, 2] = True
    terminated[-1, 5] = truncated[-1, 5] = True  # both at once: it has terminated
    terminated[-1, -1] = True
    done = terminated | truncated
    after = torch.cat([observation[:, 1:], torch.randn(num_envs, 1, 3)], 1)
    following = {
        "observation": torch.where(done, torch.randn(*shape, 3), after),
        "reward": torch.randn(*shape, 1),
        "done": done,
        "terminated": terminated,
        "truncated": truncated,
    }
    return TensorDict({"observation": observation, "next": TensorDict(following, shape)}, shape)


def estimated(kind: Any, network: Any, data: TensorDict, **config: Any) -> Any:
    """What the hook writes."""
    settings = PPOConfig(value_estimator=kind, **config)
    return Advantage(make_value_estimator(network, settings))(stub(), data)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("gamma", "lmbda"), [(0.9, 0.8), (0.99, 1.0), (1.0, 0.0), (0.0, 0.5)])
def test_every_estimator_agrees_with_a_slow_loop(kind: Any, gamma: float, lmbda: float) -> None:
    network, data = critic(), rollout()
    written = estimated(kind, network, data.clone(), gamma=gamma, gae_lambda=lmbda)
    advantage, target = slow_advantage(data, network.module, kind, gamma, lmbda)
    torch.testing.assert_close(written["advantage"], advantage, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(written["value_target"], target, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(written["state_value"], network.module(data["observation"]))
    assert not written["advantage"].requires_grad
    assert not written["value_target"].requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_episode_goes_on_from_its_own_last_observation(kind: Any) -> None:
    network, data = critic(), rollout()
    before = estimated(kind, network, data.clone())["value_target"]
    truncated, terminated = data.clone(), data.clone()
    truncated["next", "observation"][0, 7] += 1.0
    terminated["next", "observation"][0, 3] += 1.0
    after = estimated(kind, network, truncated)["value_target"]
    assert after[0, 7] != before[0, 7]
    assert torch.equal(after[0, 8:], before[0, 8:])  # it is of no other episode
    assert torch.equal(after[0, :4], before[0, :4])
    assert torch.equal(estimated(kind, network, terminated)["value_target"], before)


def test_rollouts_of_one_environment_need_no_dimension() -> None:
    network, data = critic(), rollout()
    both = estimated("gae", network, data.clone())["advantage"]
    torch.testing.assert_close(estimated("gae", network, data[1].clone())["advantage"], both[1])


def test_computed_anew_they_are_the_new_critic_s() -> None:
    network, data = critic(), rollout()
    hook = Advantage(make_value_estimator(network, PPOConfig()))
    first = hook(stub(), data)["value_target"].clone()
    with torch.no_grad():
        network.module[0].weight.mul_(2.0)
    again = hook(stub(), data)["value_target"]
    assert not torch.equal(again, first)
    torch.testing.assert_close(again, estimated("gae", network, rollout())["value_target"])


def test_the_first_epoch_is_the_one_before_which_none_has_passed() -> None:
    trainer = stub()
    for trainer.epoch in range(3):
        assert first_epoch(trainer) == (trainer.epoch == 0)


def test_normalized_they_have_mean_0_and_standard_deviation_1() -> None:
    data = rollout()
    data["advantage"] = 5.0 + 3.0 * torch.randn(2, 12, 1)
    before = data["advantage"].clone()
    NormalizeAdvantage()(stub(), data)
    after = data["advantage"]
    assert abs(float(after.mean())) < 1e-6
    assert float(after.std()) == pytest.approx(1.0)
    torch.testing.assert_close((before - before.mean()) / before.std(), after)


@pytest.mark.parametrize("frames", [0, 1, 5])
def test_equal_ones_and_few_stay_finite(frames: int) -> None:
    data = TensorDict({"advantage": torch.full((frames, 1), 7.0)}, [frames])
    NormalizeAdvantage()(stub(), data)
    assert data["advantage"].isfinite().all()
    assert data["advantage"].flatten().tolist() == ([7.0] if frames == 1 else [0.0] * frames)

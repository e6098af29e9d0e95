"""What explorers make of a policy's actions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support.environments import env_config
from tensordict import TensorDict
from torch import nn
from torchrl.envs.utils import ExplorationType, set_exploration_type

from trainers.collection.collectors import GymCollector
from trainers.collection.exploration import EpsilonGreedy
from trainers.environments.envs import Envs
from trainers.networks.acting import in_numpy
from trainers.networks.q_networks import GreedyPolicy, QNetwork

ACTIONS = 4


def greedy(activation: str = "relu") -> GreedyPolicy:
    torch.manual_seed(0)
    return GreedyPolicy(QNetwork(3, ACTIONS, [16], activation))


def observations(*shape: int) -> TensorDict:
    return TensorDict({"observation": 3.0 * torch.randn(*shape, 3)}, shape)


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_numpy_and_torch_do_the_same_with_the_same_noise(epsilon: float) -> None:
    explorer = EpsilonGreedy(in_numpy(greedy()), ACTIONS, epsilon)
    assert explorer.acts_in_numpy
    data = observations(500)
    torch.manual_seed(1)
    expected = explorer(data.clone())["action"]
    torch.manual_seed(1)
    action = explorer.act(data["observation"].numpy(), explorer.noise(500))
    assert (action.dtype, action.shape) == (np.int64, (500,))
    assert action.tolist() == expected.tolist()
    assert expected.dtype == torch.int64
    same = (expected == greedy()(data)["action"]).float().mean()
    assert float(same) == pytest.approx(1 - epsilon * (1 - 1 / ACTIONS), abs=0.07)


def test_noise_is_drawn_on_the_host() -> None:
    """Wherever the policy is: by the same generator as in numpy."""

    class Elsewhere(nn.Module):
        def forward(self, data: TensorDict) -> Any:
            return data.set("action", torch.zeros(5, dtype=torch.int64, device="meta"))

    torch.manual_seed(0)
    action = EpsilonGreedy(Elsewhere(), ACTIONS, 0.5)(observations(5))["action"]
    assert (action.device.type, action.dtype) == ("meta", torch.int64)
    drawn = torch.get_rng_state()
    torch.manual_seed(0)
    observations(5)
    EpsilonGreedy(Elsewhere(), ACTIONS).noise(5)
    assert torch.equal(torch.get_rng_state(), drawn)


def test_all_actions_are_picked_equally_often() -> None:
    explorer = EpsilonGreedy(in_numpy(greedy()), 3, epsilon=1.0)
    torch.manual_seed(0)
    picked = explorer.act(np.zeros((30_000, 3), np.float32), explorer.noise(30_000))
    assert (np.bincount(picked, minlength=3) / 30_000).tolist() == pytest.approx(
        [1 / 3] * 3, abs=0.01
    )


def test_the_largest_noise_picks_the_last_action() -> None:
    noise = np.array([[0.0, 1.0 - 2.0**-24]], np.float32)  # torch's largest uniform number
    for number in range(1, 2_000):
        explorer = EpsilonGreedy(nn.Identity(), number, epsilon=1.0)
        assert explorer.act(np.zeros((1, 3)), noise) == [number - 1]


@pytest.mark.parametrize("shape", [(7,), (2, 5)])
def test_a_deterministic_action_is_the_policy_s(shape: tuple[int, ...]) -> None:
    explorer = EpsilonGreedy(greedy(), ACTIONS, epsilon=1.0)
    data = observations(*shape)
    expected = greedy()(data.clone())["action"]
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        assert torch.equal(explorer(data.clone())["action"], expected)
    assert not torch.equal(explorer(data.clone())["action"], expected)
    in_arrays = EpsilonGreedy(in_numpy(greedy()), ACTIONS, epsilon=1.0)
    action = in_arrays.act(data["observation"].reshape(-1, 3).numpy(), None)
    assert action.tolist() == expected.flatten().tolist()


def test_it_acts_in_numpy_where_the_policy_does() -> None:
    assert not EpsilonGreedy(greedy(), ACTIONS).acts_in_numpy
    assert not EpsilonGreedy(in_numpy(greedy("silu")), ACTIONS).acts_in_numpy


@pytest.mark.parametrize("frames_per_batch", [2, 20])
def test_a_collector_asks_it_in_numpy(frames_per_batch: int, monkeypatch: Any) -> None:
    envs = Envs(env_config("CartPole-v1"), 2)
    torch.manual_seed(0)
    policy = in_numpy(GreedyPolicy(QNetwork(4, 2, [16], "relu")))
    monkeypatch.setattr(EpsilonGreedy, "forward", None)
    explorer = EpsilonGreedy(policy, 2, epsilon=0.5)
    runs = []
    for _ in range(2):
        torch.manual_seed(3)
        collector = iter(GymCollector(envs, explorer, seed=0, frames_per_batch=frames_per_batch))
        runs.append([next(collector) for _ in range(40 // frames_per_batch)])
    envs.close()
    actions = [torch.cat([rollout["action"] for rollout in run], 1) for run in runs]
    assert torch.equal(*actions)
    rollout = runs[0][0]
    assert set(rollout.keys()) == {"observation", "action", "next"}
    assert (rollout["action"].dtype, rollout["action"].ndim) == (torch.int64, 2)
    best = policy(torch.cat([rollout.clone() for rollout in runs[0]], 1))["action"]
    assert 5 < (best != actions[0]).sum() < 35

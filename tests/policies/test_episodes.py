"""Figures of episodes, and the record of the first; the episodes themselves: `test_evaluation`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.environments import env_config, how_it_ends
from tensordict import TensorDictBase
from torch import nn

from trainers.environments.envs import Envs
from trainers.policies.episodes import evaluation_envs, evaluation_seeds, run_episodes, statistics


@pytest.mark.parametrize(
    ("values", "iqm"),
    [
        ([7.0], 7.0),
        ([1.0, 2.0, 6.0], 3.0),  # a quarter of three is none
        ([100.0, 1.0, 2.0, 3.0, -50.0, 4.0, 5.0, 60.0], 3.5),
        ([9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 0.0], 4.5),
    ],
)
def test_the_interquartile_mean(values: list[float], iqm: float) -> None:
    found = statistics(np.array(values))
    assert found["iqm"] == iqm
    assert found["mean"] == pytest.approx(sum(values) / len(values))
    assert found["std"] == pytest.approx((sum(v * v for v in values) / len(values)
                                          - found["mean"] ** 2) ** 0.5)  # fmt: skip


class Counting(nn.Module):
    """Acts by a number that grows with every step."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, data: TensorDictBase) -> TensorDictBase:
        self.calls += 1
        return data.set("action", torch.full((len(data), 1), self.calls / 64))


def test_the_record_of_the_first_episode_is_what_its_environment_was_given() -> None:
    seeds = evaluation_seeds(3, 12)
    env = env_config(kwargs={"lengths": [5, 2, 9], "low": [-2.0], "high": [2.0]})
    envs = evaluation_envs(lambda number: Envs(env, number), seeds)
    episodes = run_episodes(Counting(), envs, seeds)
    envs.close()
    length, _ = how_it_ends(0, seeds[0], (5, 2, 9), ("terminated",))
    assert episodes.lengths[0] == length
    assert episodes.first["seed"] == seeds[0]
    # The policy acts in [-1, 1], the environment in [-2, 2].
    expected = [[2 * n / 64] for n in range(1, length + 1)]
    assert episodes.first["actions"].tolist() == expected


def test_an_environment_that_cannot_be_replayed_leaves_no_actions() -> None:
    envs = Envs(env_config(), 1)
    envs.replayable = False
    episodes = run_episodes(Counting(), envs, [4])
    envs.close()
    assert episodes.first == {"seed": 4, "actions": None}

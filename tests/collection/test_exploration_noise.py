"""Noise on the actions of a policy: how much, within which bounds, and for how long."""

from __future__ import annotations

import math
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from support.environments import env_config
from support.states import assert_same
from tensordict import TensorDict
from torch import nn
from torchrl.data import Bounded

from trainers.collection.collectors import GymCollector
from trainers.collection.exploration import GaussianNoise, OrnsteinUhlenbeck
from trainers.environments.envs import Envs
from trainers.networks.acting import NumpyPolicy, in_numpy
from trainers.networks.actors import ActingPolicy, TanhActor, TanhNormalActor

UNIT = Bounded(-1.0, 1.0, (2,))
WIDE = Bounded(torch.tensor([-2.0, 0.0]), torch.tensor([4.0, 0.5]), (2,))
KINDS = {"gaussian": GaussianNoise, "ornstein_uhlenbeck": OrnsteinUhlenbeck}
ACTORS = {"deterministic": TanhActor, "squashed gaussian": TanhNormalActor}
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
actors = pytest.mark.parametrize("actor", ACTORS.values(), ids=list(ACTORS))


class Still(nn.Module):
    """Always does the same."""

    def __init__(self, *action: float) -> None:
        super().__init__()
        self.action = torch.tensor([action])

    def forward(self, data: Any) -> Any:
        return data.set("action", self.action.expand(len(data), -1))


def observations(rows: int, number: int = 3) -> TensorDict:
    return TensorDict({"observation": torch.zeros(rows, number)}, [rows])


def test_noise_is_in_units_of_the_range_and_stays_within_it() -> None:
    torch.manual_seed(0)
    data = observations(20_000)
    action = GaussianNoise(Still(1.0, 0.45), WIDE, 0.1)(data)["action"]
    # WIDE is [-2, 4] and [0, 0.5]: a tenth of half of the range is 0.3 and 0.025
    assert action[:, 0].mean().item() == pytest.approx(1.0, abs=0.01)
    assert action[:, 0].std().item() == pytest.approx(0.3, abs=0.01)
    below = action[below_bound(action), 1]
    deviation = (below - 0.45).square().mean().sqrt().item()
    assert deviation == pytest.approx(0.025, abs=0.001)
    strong = GaussianNoise(Still(1.0, 0.45), WIDE, 5.0)(data)["action"]
    assert strong.amin(0).tolist() == [-2.0, 0.0]
    assert strong.amax(0).tolist() == [4.0, 0.5]


def below_bound(action: torch.Tensor) -> torch.Tensor:
    return action[:, 1] < 0.45


def test_ornstein_uhlenbeck_wanders_as_its_equation_says() -> None:
    """Its deviation after k steps, and how much of it is left k steps later."""
    torch.manual_seed(0)
    theta, sigma, dt = 2.0, 0.3, 0.05
    explorer = OrnsteinUhlenbeck(Still(1.0, 0.25), WIDE, sigma, theta, dt)
    data, half_range = observations(20_000), torch.tensor([3.0, 0.25])
    steps = [(explorer(data)["action"] - torch.tensor([1.0, 0.25])) / half_range for _ in range(40)]
    keeps = 1.0 - theta * dt
    for number in (1, 10, 40):
        variance = sigma**2 * dt * (1 - keeps ** (2 * number)) / (1 - keeps**2)
        deviation = steps[number - 1].std(0)
        assert deviation.tolist() == pytest.approx([math.sqrt(variance)] * 2, rel=0.03)
    products = (steps[39] * steps[34]).mean(0) / steps[34].square().mean(0)
    assert products.tolist() == pytest.approx([keeps**5] * 2, abs=0.03)
    assert (steps[39][:, 0] * steps[39][:, 1]).mean().abs() < 0.01  # actions wander apart


def test_an_episode_begins_without_noise_from_before() -> None:
    torch.manual_seed(0)
    explorer = OrnsteinUhlenbeck(Still(0.0, 0.0), UNIT, 0.001, dt=1.0)
    explorer(observations(3))
    before = explorer.exploration_state
    assert before is not None
    before = before.copy()
    explorer.begin_episodes(np.array([False, True, False]))
    assert explorer.exploration_state.tolist() == [
        before[0].tolist(),
        [0.0] * 2,
        before[2].tolist(),
    ]
    data = observations(3).set("is_init", torch.tensor([[True], [False], [False]]))
    torch.manual_seed(1)
    explorer(data)
    torch.manual_seed(1)
    drawn = 0.001 * torch.randn(3, 2).numpy()
    expected = drawn + 0.85 * np.stack([0 * before[0], 0 * before[0], before[2]])
    np.testing.assert_allclose(explorer.exploration_state, expected, rtol=1e-5)


# ------------------------------------------------------------------------- in numpy


def explorer_of(kind: Any, actor: Any, spec: Any = WIDE, strength: float = 0.4) -> Any:
    torch.manual_seed(0)
    return kind(in_numpy(ActingPolicy(actor(3, spec, [16, 16], "relu"))), spec, strength)


@kinds
@actors
@pytest.mark.parametrize("spec", [UNIT, WIDE], ids=["unit", "wide"])
def test_in_numpy_it_is_what_it_is_in_torch(kind: Any, actor: Any, spec: Any) -> None:
    ours, theirs = (explorer_of(kind, actor, spec) for _ in range(2))
    assert ours.acts_in_numpy
    torch.manual_seed(1)
    data = observations(50)
    data["observation"].normal_()
    for seed in range(3):  # the second step's noise may depend on the first's
        torch.manual_seed(seed)
        noise = ours.noise(1, 50)
        assert noise.shape[:2] == (1, 50)
        action = ours.act(data["observation"].numpy(), noise[0])
        torch.manual_seed(seed)
        with torch.no_grad():
            expected = theirs(data)["action"].numpy()
        assert (action.dtype, action.shape) == (expected.dtype, expected.shape)
        np.testing.assert_allclose(action, expected, rtol=1e-4, atol=1e-5)
        assert (action >= spec.space.low.numpy()).all()
        assert (action <= spec.space.high.numpy()).all()
    without = ours.policy.act(data["observation"].numpy(), None)
    assert np.abs(action - without).max() > 0.05
    np.testing.assert_array_equal(ours.act(data["observation"].numpy(), None), without)


@kinds
def test_it_says_so_only_where_the_policy_acts_in_numpy(kind: Any) -> None:
    assert not kind(Still(0.0, 0.0), UNIT, 0.1).acts_in_numpy
    policy = ActingPolicy(TanhActor(3, UNIT, [8], "silu"))
    assert not kind(in_numpy(policy), UNIT, 0.1).acts_in_numpy
    assert kind(NumpyPolicy(ActingPolicy(TanhActor(3, UNIT, [8], "relu"))), UNIT, 0.1).acts_in_numpy


# --------------------------------------------------------------------- in a collector

SIGMA, THETA, DT = 0.01, 10.0, 0.01


def collected(
    explorer: Any, number: int, load: Any = None, **given: Any
) -> tuple[TensorDict, dict[str, Any]]:
    """So many rollouts of two environments, one after the other, and the collector's state.

    Episodes have five steps, the first one of one environment has three.
    """
    envs = Envs(env_config("Pendulum-v1", max_episode_steps=5), 2)
    collector = GymCollector(envs, explorer, seed=0, **given)
    try:
        if load is not None:
            collector.load_state_dict(load)
            assert collector.restored == ("exact", "")
        rollouts: list[Any] = list(islice(collector, number))
        return torch.cat(rollouts, -1), collector.state_dict()
    finally:
        envs.close()


def wanderer(kind: Any = OrnsteinUhlenbeck, numpy: bool = True) -> Any:
    """Its policy does nothing: all there is to see is the noise."""
    spec = Bounded(-1.0, 1.0, (1,))
    actor = TanhActor(3, spec, [8], "relu")
    with torch.no_grad():
        for parameter in actor.parameters():
            parameter.zero_()
    policy = ActingPolicy(actor)
    more = (THETA, DT) if kind is OrnsteinUhlenbeck else ()
    return kind(in_numpy(policy) if numpy else policy, spec, SIGMA, *more)


@pytest.mark.parametrize("numpy", [True, False])
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("steps", [1, 7])
def test_noise_begins_anew_with_every_episode(numpy: bool, overlap: bool, steps: int) -> None:
    """Also within a rollout, and where the next step is begun before a rollout is handed out."""
    torch.manual_seed(0)
    given = {"frames_per_batch": 2 * steps, "overlap": overlap}
    data, _ = collected(wanderer(numpy=numpy), 210 // steps, **given)
    action, done = data["action"].squeeze(-1), data["next", "done"].squeeze(-1)
    assert done.sum().item() == 2 * 42 - 1 + 1
    begins = torch.cat([torch.ones(2, 1, dtype=torch.bool), done[:, :-1]], 1)
    before = torch.cat([torch.zeros(2, 1), action[:, :-1]], 1)
    new = action - torch.where(begins, 0.0, (1.0 - THETA * DT) * before)
    deviation = SIGMA * math.sqrt(DT)
    assert new.std().item() == pytest.approx(deviation, rel=0.1)
    # Were it not so, noise from before would be in what is new.
    for first in (begins, ~begins):
        both = torch.stack([new[first], before[first]])
        assert torch.corrcoef(both)[0, 1].abs() < 0.25
    assert before[begins][2:].std() > 1.5 * deviation


@pytest.mark.parametrize("numpy", [True, False])
@pytest.mark.parametrize("overlap", [False, True])
def test_it_goes_on_where_it_was(numpy: bool, overlap: bool) -> None:
    """Within an episode."""
    torch.manual_seed(0)
    whole, _ = collected(wanderer(numpy=numpy), 11, overlap=overlap)
    torch.manual_seed(0)
    first, state = collected(wanderer(numpy=numpy), 4, overlap=overlap)
    assert state["exploration"].shape == (2, 1)
    drawn, explorer = torch.get_rng_state(), wanderer(numpy=numpy)
    torch.set_rng_state(drawn)  # networks have drawn, too
    rest, _ = collected(explorer, 7, load=state, overlap=overlap)
    assert_same(torch.cat([first, rest], -1).to_dict(), whole.to_dict())


def test_a_state_without_noise_begins_without() -> None:
    """Of a run with another kind of noise."""
    _, state = collected(wanderer(GaussianNoise), 4)
    assert state["exploration"] is None
    explorer = wanderer()
    explorer.exploration_state = np.ones((2, 1), np.float32)
    collected(explorer, 1, load=state)
    assert np.abs(explorer.exploration_state).max() < 0.1

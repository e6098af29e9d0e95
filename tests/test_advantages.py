"""Advantages, and sums over time, against slow loops and TorchRL's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.advantages import slow_advantage
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.objectives.value import GAE as TorchRLGAE
from torchrl.objectives.value.functional import vtrace_advantage_estimate

from trainers.advantages import GAE, VTrace, discounted_sum

# ---------------------------------------------------------------- sums over time


def slow_sum(values: Tensor, discounts: Tensor) -> Tensor:
    """From the last step to the first, in float64."""
    total = torch.zeros_like(values, dtype=torch.float64)
    carried = torch.zeros(values.shape[:-1], dtype=torch.float64)
    for step in reversed(range(values.shape[-1])):
        carried = values[..., step].double() + discounts[..., step].double() * carried
        total[..., step] = carried
    return total


def discounts_with_ends(*shape: int) -> Tensor:
    """Mostly near 1, zero in every fifth step or so, in some rows everywhere or nowhere."""
    discounts = 0.9 + 0.1 * torch.rand(shape)
    discounts[torch.rand(shape) < 0.2] = 0.0
    if len(shape) > 1:
        discounts[0] = 0.99
        discounts[-1] = 0.0
    return discounts


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 64, 100])
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sum_is_that_of_a_slow_loop(
    steps: int, batch: tuple[int, ...], dtype: torch.dtype
) -> None:
    torch.manual_seed(steps)
    values = torch.randn(*batch, steps).to(dtype)
    discounts = discounts_with_ends(*batch, steps).to(dtype)
    given = values.clone(), discounts.clone()
    total = discounted_sum(values, discounts)
    expected = slow_sum(values, discounts)
    assert total.dtype == dtype
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(total.double(), expected, rtol=tolerance, atol=tolerance)
    assert torch.equal(values, given[0])
    assert torch.equal(discounts, given[1])


def test_without_discount_it_is_the_sum_of_the_rest() -> None:
    ones = torch.ones(2, 2_048)
    assert discounted_sum(ones, ones)[0].tolist() == list(range(2_048, 0, -1))
    assert torch.equal(discounted_sum(ones, 0 * ones), ones)


def test_long_sums_lose_no_digits() -> None:
    """Float32 would have lost four of the seven it has."""
    torch.manual_seed(0)
    values, discounts = 1e3 + torch.randn(1, 4_096), torch.full((1, 4_096), 0.9999)
    total = discounted_sum(values, discounts)
    assert torch.equal(total, slow_sum(values, discounts).float())


# ----------------------------------------------------------- advantage estimation


class Counted(nn.Module):
    """A value network that counts the frames that it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
        self.frames: list[int] = []

    def forward(self, observation: Tensor) -> Tensor:
        self.frames.append(observation[..., 0].numel())
        return self.net(observation)


def critic() -> TensorDictModule:
    return TensorDictModule(Counted(), ["observation"], ["state_value"])


# At which steps the episodes of each environment end, and how.
ENDS: dict[str, list[list[tuple[int, str]]]] = {
    "none": [[], []],
    "in the middle": [[(2, "terminated"), (6, "truncated")], [(4, "both")]],
    "at the end": [[(9, "terminated")], [(9, "truncated")]],
    "at once": [[(0, "truncated"), (1, "terminated")], [(0, "terminated"), (9, "both")]],
    "always": [[(step, "truncated") for step in range(10)]] * 2,
}
endings = pytest.mark.parametrize("ends", ENDS.values(), ids=list(ENDS))


def rollout(ends: list[list[tuple[int, str]]], steps: int = 10) -> TensorDict:
    """Rollouts whose episodes end so; an episode's last observation is its own."""
    torch.manual_seed(1)
    shape = [len(ends), steps]
    terminated, truncated = (torch.zeros(*shape, 1, dtype=torch.bool) for _ in range(2))
    for env, each in enumerate(ends):
        for step, how in each:
            terminated[env, step] = how in ("terminated", "both")
            truncated[env, step] = how in ("truncated", "both")
    done = terminated | truncated
    observation = torch.randn(*shape, 3)
    after = torch.cat([observation[:, 1:], torch.randn(len(ends), 1, 3)], 1)
    following = {
        "observation": torch.where(done, torch.randn(*shape, 3), after),
        "reward": torch.randn(*shape, 1),
        "done": done,
        "terminated": terminated,
        "truncated": truncated,
    }
    return TensorDict({"observation": observation, "next": TensorDict(following, shape)}, shape)


@endings
@pytest.mark.parametrize(("gamma", "lmbda"), [(0.99, 0.95), (0.9, 0.0), (1.0, 1.0), (0.0, 0.5)])
def test_advantages_are_torchrl_s_and_a_slow_loop_s(ends: Any, gamma: float, lmbda: float) -> None:
    data, network = rollout(ends), critic()
    written = GAE(network, gamma, lmbda)(data.clone())
    theirs = TorchRLGAE(gamma=gamma, lmbda=lmbda, value_network=network)(data.clone())
    slow = slow_advantage(data, network.module, "gae", gamma, lmbda)
    for key, expected in zip(("advantage", "value_target"), slow, strict=True):
        assert written[key].shape == (2, 10, 1)
        assert written[key].dtype == torch.float32
        assert not written[key].requires_grad
        torch.testing.assert_close(written[key], theirs[key], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(written[key], expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(written["state_value"], theirs["state_value"])
    assert set(written.keys()) == {*data.keys(), "advantage", "value_target", "state_value"}
    for key in data.keys(True, True):
        assert torch.equal(written[key], data[key]), key


@pytest.mark.parametrize("dimensions", [0, 2])
def test_rollouts_of_other_dimensions(dimensions: int) -> None:
    data, network = rollout(ENDS["in the middle"]), critic()
    expected = GAE(network, 0.9, 0.8)(data.clone())["advantage"]
    shaped = data[1] if dimensions == 0 else torch.stack([data, data])
    advantage = GAE(network, 0.9, 0.8)(shaped.clone())["advantage"]
    both = expected[1] if dimensions == 0 else torch.stack([expected, expected])
    torch.testing.assert_close(advantage, both)


@endings
def test_the_network_is_asked_again_only_where_something_ends(ends: Any) -> None:
    data, network = rollout(ends), critic()
    GAE(network, 0.99, 0.95)(data)
    last = {(env, step) for env, each in enumerate(ends) for step, _ in each} | {(0, 9), (1, 9)}
    assert network.module.frames == [20, len(last)]


# ------------------------------------------------------------------------- v-trace


class Actor:
    """A normal around the first number observed."""

    in_keys = ("observation",)

    def get_dist(self, data: TensorDict) -> torch.distributions.Normal:
        return torch.distributions.Normal(data["observation"][..., 0], 1.0)


def acted(ends: list[list[tuple[int, str]]], lag: float) -> TensorDict:
    """A rollout of a policy whose mean is off by ``lag``."""
    data = rollout(ends)
    mean = data["observation"][..., 0] + lag
    data["action"] = mean + torch.randn(mean.shape)
    data["action_log_prob"] = torch.distributions.Normal(mean, 1.0).log_prob(data["action"])
    return data


def slow_vtrace(data: TensorDict, value: Any, gamma: float) -> tuple[Tensor, Tensor]:
    """Equation 1 of the paper term by term: a sum over all later steps of the episode."""
    advantages, targets = torch.zeros(2, 10, 1), torch.zeros(2, 10, 1)
    for env in range(2):
        frames = [data[env, step] for step in range(10)]
        log_probs = [
            Actor().get_dist(f).log_prob(f["action"]) - f["action_log_prob"] for f in frames
        ]
        weights = [min(1.0, float(log_prob.exp())) for log_prob in log_probs]
        here = [float(value(f["observation"]).detach()) for f in frames]
        there = [float(value(f["next", "observation"]).detach()) for f in frames]
        there = [0.0 if f["next", "terminated"] else v for f, v in zip(frames, there, strict=True)]
        rewards = [float(f["next", "reward"]) for f in frames]
        for step in range(10):
            target, factor = here[step], 1.0
            for later in range(step, 10):
                error = weights[later] * (rewards[later] + gamma * there[later] - here[later])
                target += factor * error
                factor *= gamma * weights[later]
                if frames[later]["next", "done"]:
                    break
            targets[env, step] = target
        for step in range(10):
            cut = step == 9 or bool(frames[step]["next", "done"])
            following = there[step] if cut else float(targets[env, step + 1])
            advantage = weights[step] * (rewards[step] + gamma * following - here[step])
            advantages[env, step] = advantage
    return advantages, targets


@endings
@pytest.mark.parametrize("lag", [0.0, 1.0])
@pytest.mark.parametrize("gamma", [0.9, 1.0, 0.0])
def test_v_trace_is_the_paper_s(ends: Any, lag: float, gamma: float) -> None:
    data, network = acted(ends, lag), critic()
    written = VTrace(network, Actor(), gamma)(data.clone())
    for key, expected in zip(
        ("advantage", "value_target"), slow_vtrace(data, network.module, gamma), strict=True
    ):
        assert written[key].dtype == torch.float32
        assert not written[key].requires_grad
        torch.testing.assert_close(written[key], expected, rtol=1e-4, atol=1e-5)


@endings
def test_v_trace_may_leave_the_weight_to_the_loss(ends: Any) -> None:
    data, network = acted(ends, lag=1.0), critic()
    weighed = VTrace(network, Actor(), 0.9)(data.clone())
    left = VTrace(network, Actor(), 0.9, weighs=False)(data.clone())
    log_ratio = Actor().get_dist(data).log_prob(data["action"]) - data["action_log_prob"]
    weight = log_ratio.exp().clamp(max=1.0).unsqueeze(-1)
    assert weight.min() < 0.9
    torch.testing.assert_close(weight * left["advantage"], weighed["advantage"])
    assert torch.equal(left["value_target"], weighed["value_target"])


@endings
def test_v_trace_is_torchrl_s_where_that_is_told_the_probabilities(ends: Any) -> None:
    """Its estimator would take those of newly drawn actions; its function does not."""
    data, network = acted(ends, lag=1.0), critic()
    written = VTrace(network, Actor(), 0.9)(data.clone())
    value = network.module(data["observation"]).detach()
    next_value = network.module(data["next", "observation"]).detach()
    log_pi = Actor().get_dist(data).log_prob(data["action"])
    advantage, target = vtrace_advantage_estimate(
        0.9,
        log_pi.unsqueeze(-1),
        data["action_log_prob"].unsqueeze(-1),
        value,
        next_value,
        data["next", "reward"],
        data["next", "done"],
        data["next", "terminated"],
    )
    torch.testing.assert_close(written["advantage"], advantage, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(written["value_target"], target, rtol=1e-4, atol=1e-5)


@endings
def test_v_trace_of_the_present_policy_is_td1(ends: Any) -> None:
    data, network = acted(ends, lag=0.0), critic()
    written = VTrace(network, Actor(), 0.9)(data.clone())
    expected = slow_advantage(data, network.module, "td1", 0.9, 1.0)
    for key, values in zip(("advantage", "value_target"), expected, strict=True):
        torch.testing.assert_close(written[key], values, rtol=1e-4, atol=1e-5)

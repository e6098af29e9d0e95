"""Acting in numpy is what the actor would have done."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from support.algorithms import tiny_ppo
from support.environments import env_config
from tensordict import TensorDict
from torchrl.data import Bounded
from torchrl.envs.utils import ExplorationType, set_exploration_type

from trainers.algorithms.on_policy import make_networks
from trainers.build import build
from trainers.collection.collectors import GymCollector
from trainers.config import NetworkConfig, PPOConfig
from trainers.environments.envs import Envs
from trainers.networks.acting import NumpyPolicy
from trainers.networks.actors import ActingPolicy, TanhActor, TanhNormalActor
from trainers.policies.episodes import run_episodes

ENVIRONMENTS = {
    "gaussian": {"env_id": "Pendulum-v1", "max_episode_steps": 30},
    "categorical": {"env_id": "CartPole-v1"},
}
environments = pytest.mark.parametrize("env", ENVIRONMENTS.values(), ids=list(ENVIRONMENTS))


@pytest.fixture
def make() -> Iterator[Any]:
    """Makes environments that are closed after the test."""
    made: list[Envs] = []

    def make_envs(env: dict[str, Any], num_envs: int = 1) -> Envs:
        made.append(Envs(env_config(**env), num_envs))
        return made[-1]

    yield make_envs
    for envs in made:
        envs.close()


def actor_for(envs: Envs, **config: Any) -> Any:
    """An actor that prefers something, behind a normaliser that has seen something."""
    torch.manual_seed(0)
    network = NetworkConfig(hidden=[16, 16], activation="tanh")
    made = make_networks(envs.num_observations, envs.action_spec, network, PPOConfig(**config))
    with torch.no_grad():
        for parameter in made.actor.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    if made.norm is not None:
        made.norm.update(torch.randn(50, envs.num_observations))
    return made.actor


def observations(envs: Envs, *shape: int) -> TensorDict:
    observation = 2.0 * torch.randn(*shape, envs.num_observations)
    return TensorDict({"observation": observation}, shape)


@environments
def test_without_noise_it_is_the_actor_s_deterministic_action(make: Any, env: Any) -> None:
    envs = make(env)
    actor = actor_for(envs)
    data = observations(envs, 100)
    action = NumpyPolicy(actor).act(data["observation"].numpy(), None)
    with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
        expected = actor(data)["action"].numpy()
    assert (action.dtype, action.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(action, expected, rtol=1e-5, atol=1e-6)
    assert len(np.unique(action)) > 1


BOUNDS = {"unit": ([-1.0, -1.0], [1.0, 1.0]), "uneven": ([-2.0, 1.0], [3.0, 9.0])}


@pytest.mark.parametrize("bounds", BOUNDS.values(), ids=list(BOUNDS))
def test_a_squashed_gaussian_acts_as_in_torch(bounds: tuple[list[float], list[float]]) -> None:
    torch.manual_seed(0)
    low, high = map(torch.tensor, bounds)
    policy = ActingPolicy(TanhNormalActor(5, Bounded(low, high, (2,)), [32, 32], "relu"))
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(2.0)
    data = TensorDict({"observation": torch.randn(200, 5)}, [200])
    observation = data["observation"].numpy()
    in_numpy = NumpyPolicy(policy)
    with torch.no_grad():
        with set_exploration_type(ExplorationType.DETERMINISTIC):
            expected = policy(data)["action"].numpy()
        action = in_numpy.act(observation, None)
        np.testing.assert_allclose(action, expected, rtol=1e-4, atol=1e-5)
        torch.manual_seed(1)
        expected = policy(data)["action"].numpy()
        torch.manual_seed(1)
        action = in_numpy.act(observation, in_numpy.noise(200))
    assert (action.dtype, action.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(action, expected, rtol=1e-4, atol=1e-5)
    assert (action >= low.numpy()).all()
    assert (action <= high.numpy()).all()
    assert np.unique(action).size > 300
    in_numpy.describe(data)
    assert set(data.keys()) == {"observation", "action"}


@pytest.mark.parametrize("bounds", BOUNDS.values(), ids=list(BOUNDS))
def test_a_deterministic_actor_acts_as_in_torch(bounds: tuple[list[float], list[float]]) -> None:
    torch.manual_seed(0)
    low, high = map(torch.tensor, bounds)
    policy = ActingPolicy(TanhActor(5, Bounded(low, high, (2,)), [32, 32], "relu"))
    data = TensorDict({"observation": 9.0 * torch.randn(200, 5)}, [200])
    in_numpy = NumpyPolicy(policy)
    assert in_numpy.acts_in_numpy
    noise = in_numpy.noise(3, 200)
    assert noise.shape == (3, 200, 0)
    with torch.no_grad():
        expected = policy(data)["action"].numpy()
    for given in (None, noise[0]):
        action = in_numpy.act(data["observation"].numpy(), given)
        assert (action.dtype, action.shape) == (expected.dtype, expected.shape)
        np.testing.assert_allclose(action, expected, rtol=1e-4, atol=1e-5)
    assert np.unique(action).size > 300


@environments
def test_as_a_module_it_is_the_actor(make: Any, env: Any) -> None:
    envs = make(env)
    actor = actor_for(envs)
    policy = NumpyPolicy(actor)
    written = []
    for module in (actor, policy):
        torch.manual_seed(1)
        written.append(module(observations(envs, 10)))
    assert (written[0] == written[1]).all()
    assert [id(p) for p in policy.parameters()] == [id(p) for p in actor.parameters()]


@environments
@pytest.mark.parametrize("shape", [(10,), (2, 5)])
def test_what_is_told_of_actions_is_what_the_actor_tells(
    make: Any, env: Any, shape: tuple[int, ...]
) -> None:
    envs = make(env)
    actor = actor_for(envs)
    expected = actor(observations(envs, *shape)).detach()
    data = expected.select("observation", "action")
    NumpyPolicy(actor).describe(data)
    assert set(data.keys()) == set(expected.keys())
    for key, value in expected.items():
        assert data[key].dtype == value.dtype
        assert not data[key].requires_grad
        torch.testing.assert_close(data[key], value, rtol=1e-5, atol=1e-6)


# ----------------------------------------------------------------------- collection


def rollouts(envs: Envs, policy: Any, number: int = 2, **given: Any) -> list[TensorDict]:
    """Of five steps of each environment."""
    torch.manual_seed(1)
    frames = 5 * envs.num_envs
    collector = GymCollector(envs, policy, seed=0, frames_per_batch=frames, **given)
    return list(islice(collector, number))


def layout(rollout: TensorDict) -> dict[Any, Any]:
    return {key: (v.shape, v.dtype, v.device) for key, v in rollout.items(True, True)}


@environments
@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("overlap", [False, True])
def test_rollouts_are_laid_out_as_with_the_actor(
    make: Any, env: Any, num_envs: int, overlap: bool
) -> None:
    envs, other = make(env, num_envs), make(env, num_envs)
    actor = actor_for(envs)
    ours = rollouts(envs, NumpyPolicy(actor), overlap=overlap)
    theirs = rollouts(other, actor, overlap=overlap)
    for one, two in zip(ours, theirs, strict=True):
        assert layout(one) == layout(two)
        assert one.batch_size == two.batch_size == (num_envs, 5)


@environments
@pytest.mark.parametrize("overlap", [False, True])
def test_the_stored_log_probability_is_that_of_the_stored_action(
    make: Any, env: Any, overlap: bool
) -> None:
    envs = make(env, 3)
    actor = actor_for(envs)
    for rollout in rollouts(envs, NumpyPolicy(actor), overlap=overlap):
        with torch.no_grad():
            distribution = actor.get_dist(rollout.select("observation"))
        expected = distribution.log_prob(rollout["action"])
        assert len(rollout["action_log_prob"].unique()) > 1
        torch.testing.assert_close(rollout["action_log_prob"], expected, rtol=1e-5, atol=1e-5)


def test_actions_are_drawn_from_the_policy_as_it_is(make: Any) -> None:
    envs = make(ENVIRONMENTS["gaussian"], 4)
    actor = actor_for(envs)
    torch.manual_seed(1)
    collector = iter(GymCollector(envs, NumpyPolicy(actor), seed=0, frames_per_batch=1_000))
    for _ in range(2):
        rollout = next(collector)
        z = (rollout["action"] - rollout["loc"]) / rollout["scale"]
        assert float(z.mean()) == pytest.approx(0.0, abs=0.12)
        assert float(z.std()) == pytest.approx(1.0, abs=0.08)
        with torch.no_grad():  # the next rollout is another policy's
            actor[0].module[0][-1].bias.add_(3.0)
            actor[0].module[1].to_parameters.state_independent_scale.sub_(1.0)
    assert float(rollout["loc"].mean()) > 2.0


def test_what_was_begun_with_older_weights_keeps_its_log_probability(make: Any) -> None:
    envs = make(ENVIRONMENTS["gaussian"], 2)
    actor = actor_for(envs)
    policy = NumpyPolicy(actor)
    collector = iter(GymCollector(envs, policy, seed=0, frames_per_batch=10, overlap=True))
    next(collector)
    older = copy.deepcopy(actor)
    with torch.no_grad():
        actor[0].module[0][-1].bias.add_(3.0)
        rollout = next(collector)
        for steps, author in ((slice(0, 1), older), (slice(1, None), actor)):
            part = rollout[:, steps]
            expected = author.get_dist(part.select("observation")).log_prob(part["action"])
            torch.testing.assert_close(part["action_log_prob"], expected, rtol=1e-5, atol=1e-5)


def test_a_collector_acts_in_numpy_after_the_warm_up(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    envs = make(ENVIRONMENTS["gaussian"])
    policy = NumpyPolicy(actor_for(envs))
    monkeypatch.setattr(NumpyPolicy, "forward", None)
    random, own = rollouts(envs, policy, init_random_frames=5)
    assert set(own.keys()) - set(random.keys()) == {"loc", "scale", "action_log_prob"}
    assert random["action"].abs().max() <= 1


def test_the_same_seed_draws_the_same_actions(make: Any) -> None:
    runs = []
    for _ in range(2):
        envs = make(ENVIRONMENTS["gaussian"], 2)
        np.random.seed(None)
        runs.append(rollouts(envs, NumpyPolicy(actor_for(envs))))
    for one, two in zip(*runs, strict=True):
        assert (one == two).all()
    assert not torch.equal(runs[0][0]["action"], runs[0][1]["action"])


# ----------------------------------------------------------------------- evaluation


@environments
@pytest.mark.parametrize("deterministic", [True, False])
def test_episodes_are_those_of_the_actor(make: Any, env: Any, deterministic: bool) -> None:
    envs = make(env, 3)
    actor = actor_for(envs)
    ours, theirs = (
        run_episodes(policy, envs, range(5), deterministic=deterministic)
        for policy in (NumpyPolicy(actor), actor)
    )
    assert len(set(theirs.returns)) > 1
    assert ours.lengths.tolist() == theirs.lengths.tolist()
    np.testing.assert_allclose(ours.returns, theirs.returns, rtol=1e-4)


def test_an_evaluation_acts_in_numpy(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    envs = make(ENVIRONMENTS["categorical"])
    policy = NumpyPolicy(actor_for(envs))
    monkeypatch.setattr(NumpyPolicy, "forward", None)
    assert run_episodes(policy, envs, [0]).returns[0] > 0


# -------------------------------------------------------------------- what it is for


def test_what_is_saved_is_the_actor_s(make: Any) -> None:
    """So that it loads where the actor acts itself, on a GPU for one."""
    envs = make(ENVIRONMENTS["gaussian"])
    actor = actor_for(envs)
    policy = NumpyPolicy(actor)
    saved = {key: value.clone() for key, value in policy.state_dict().items()}
    assert saved.keys() == actor.state_dict().keys()
    with torch.no_grad():
        for parameter in actor.parameters():
            parameter.zero_()
    policy.load_state_dict(saved)
    assert all(torch.equal(value, saved[key]) for key, value in actor.state_dict().items())


@pytest.mark.parametrize(
    ("algo", "fits"),
    [({}, True), ({"functional": True}, True), ({"predict_std": True}, False),
     ({"tanh_loc": True}, True), ({"shared_trunk": True}, False),
     ({"loss_module": "torchrl"}, True)],
    ids=str,
)  # fmt: skip
def test_which_policies_act_in_numpy(algo: dict[str, Any], fits: bool) -> None:
    built = build(tiny_ppo(algo=algo))
    built.trainer.collector.shutdown()
    assert isinstance(built.policy, NumpyPolicy) is fits
    assert built.trainer.collector.policy is built.policy


def test_other_actors_do_not_fit() -> None:
    spec = Bounded(-1.0, 1.0, (2,))
    assert not NumpyPolicy.fits(TanhNormalActor(4, spec, [8], "tanh"))
    elsewhere = make_networks(4, spec, NetworkConfig(hidden=[8], activation="tanh"), PPOConfig())
    assert NumpyPolicy.fits(elsewhere.actor)
    assert not NumpyPolicy.fits(elsewhere.actor.to("meta"))

"""Deep Q-learning, with values and with distributions of returns: its parts put together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from support.algorithms import tiny_c51, tiny_dqn
from support.environments import env_config, register_spaces
from support.states import assert_same, loss_of, owner, parameters
from tensordict import TensorDict
from tensordict.nn import TensorDictSequential
from torch import nn
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.envs import GymEnv
from torchrl.modules import EGreedyModule, QValueActor
from torchrl.objectives import DistributionalDQNLoss, DQNLoss

from trainers import plugins
from trainers.algorithms.dqn import DQNTrainer
from trainers.build import build
from trainers.collection.exploration import EpsilonGreedy
from trainers.config import ConfigError, DQNConfig, NetworkConfig
from trainers.hooks import AnnealEpsilon, LogLosses, TargetUpdate
from trainers.losses.c51 import FastC51Loss, LeanC51Loss
from trainers.losses.dqn import FastDQNLoss, LeanDQNLoss
from trainers.networks.acting import NumpyPolicy
from trainers.networks.mlps import mlp

TINY: dict[str, Any] = {"dqn": tiny_dqn, "c51": tiny_c51}
both = pytest.mark.parametrize("tiny", TINY.values(), ids=list(TINY))


# --------------------------------------------------------------------- the page


@both
def test_what_is_logged(make: Any, tiny: Any) -> None:
    trainer = make(tiny())
    trainer.register_hook("post_optim", LogLosses())
    trainer.train()
    expected = {"loss/qvalue", "train/qvalue", "train/epsilon", "train/grad_norm"}
    expected |= {"train/td_error"} if tiny is tiny_dqn else set()
    assert trainer.metrics.flush().keys() == expected


@pytest.mark.parametrize("name", TINY)
def test_the_timetable(make: Any, name: str) -> None:
    trainer = make(TINY[name](algo={"n_steps": 3, "prioritized": True, "lr_schedule": "linear"}))
    watch = ["watch_support"] if name == "c51" else []
    rows = [line.replace(",", "").split() for line in str(trainer).splitlines()[1:]]
    assert rows == [
        ["setup", "weight_sync", "anneal_epsilon"],
        ["post_collect", "replay", *watch],
        ["pre_epoch", "-"],
        ["process_optim_batch", "anneal_lr_0", "replay", "nstep_returns"],
        ["post_loss", "-"],
        ["post_backward", "clip_grad_norm"],
        ["post_optim", "clip_grad_norm", "target_update", "replay"],
        ["post_steps", "weight_sync", "anneal_epsilon"],
        ["checkpoint", "-"],
        ["shutdown", "-"],
    ]


@pytest.mark.parametrize(
    ("config", "loss_class"),
    [
        (tiny_dqn(), FastDQNLoss),
        (tiny_dqn(network=NetworkConfig(hidden=[8], activation="silu")), LeanDQNLoss),
        (tiny_dqn(algo={"loss_module": "torchrl"}), DQNLoss),
        (tiny_c51(), FastC51Loss),
        (tiny_c51(network=NetworkConfig(hidden=[300])), LeanC51Loss),
        (tiny_c51(algo={"loss_module": "torchrl"}), DistributionalDQNLoss),
    ],
    ids=["dqn", "dqn, silu", "dqn, torchrl", "c51", "c51, wide", "c51, torchrl"],
)
def test_which_loss_it_is(make: Any, config: Any, loss_class: type) -> None:
    assert type(loss_of(make(config))) is loss_class


def test_torchrl_s_loss_is_logged_as_the_total(make: Any) -> None:
    trainer = make(tiny_dqn(algo={"loss_module": "torchrl"}))
    trainer.register_hook("post_optim", LogLosses())
    trainer.train()
    assert trainer.metrics.flush().keys() == {"loss/total", "train/epsilon", "train/grad_norm"}


def test_a_loss_of_a_plugin(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins.losses, "_entries", {})

    @plugins.losses.register("halved")
    class Halved(DQNLoss):
        def forward(self, tensordict: Any) -> Any:
            return TensorDict({"loss_half": 0.5 * super().forward(tensordict)["loss"]})

    trainer = make(tiny_dqn(algo={"loss_module": "halved"}))
    trainer.register_hook("post_optim", LogLosses())
    trainer.train()
    assert "loss/half" in trainer.metrics.flush()

    @plugins.losses.register("odd")
    class Odd(nn.Module):
        def __init__(self, actor: Any, critic: Any) -> None:
            super().__init__()

    with pytest.raises(ConfigError, match=r"algo.loss_module: got \"odd\".*own"):
        make(tiny_dqn(algo={"loss_module": "odd"}))


@both
def test_keywords_reach_the_loss(make: Any, tiny: Any) -> None:
    given = {"gamma": 0.5, "lr": 2e-3, "adam_eps": 1e-4, "reduction": "sum", "delay_value": False}
    given |= {"double": False, "loss_function": "l1"} if tiny is tiny_dqn else {}
    trainer = make(tiny(algo=given))
    loss, (optimizer,) = loss_of(trainer), trainer.phases[0].optimizers
    assert [float(v) for k, v in loss.state_dict().items() if "gamma" in k] == [0.5]
    assert (loss.reduction, loss.delay_value) == ("sum", False)
    assert owner(trainer, TargetUpdate) is None
    (group,) = optimizer.param_groups
    assert (group["name"], group["lr"], group["eps"]) == ("value", 2e-3, 1e-4)
    if tiny is tiny_dqn:
        assert (loss.double_dqn, loss.loss_function) == (False, "l1")
    assert loss_of(make(tiny_dqn())).double_dqn


def test_the_support_is_configured_and_stays_so(make: Any, tmp_path: Path) -> None:
    first = make(tiny_c51(algo={"num_atoms": 3, "v_min": -100.0}))
    first.train()
    first.save(tmp_path / "saved")
    built = build(tiny_c51(algo={"num_atoms": 3, "v_min": 0.0, "v_max": 50.0, "gamma": 0.9}))
    with built.keeping_settings():
        built.trainer.load(tmp_path / "saved")
    built.trainer.collector.shutdown()
    loss: Any = built.trainer.phases[0].loss
    assert loss.value_network_params["support"].tolist() == [0.0, 25.0, 50.0]
    assert loss.gamma == pytest.approx(0.9)


# ------------------------------------------------------------------ exploration


@both
def test_epsilon_falls_by_the_clock(make: Any, tiny: Any) -> None:
    algo = {"epsilon_start": 0.8, "epsilon_end": 0.2, "exploration_fraction": 0.5}
    trainer = make(tiny(algo=algo, total_frames=40))
    explorer, seen = trainer.collector.policy, []
    trainer.register_hook("post_collect", lambda trainer, rollout: seen.append(explorer.epsilon))
    trainer.train()
    assert seen == pytest.approx([0.8 - 0.6 * min(1, frame / 20) for frame in range(40)])


@both
def test_epsilon_is_for_collection_only(tiny: Any) -> None:
    built = build(tiny(algo={"epsilon_end": 1.0}, total_frames=300))
    policy, seen = built.policy, []
    assert isinstance(policy, NumpyPolicy)
    assert isinstance(built.trainer.collector.policy, EpsilonGreedy)
    built.trainer.register_hook("post_collect", lambda t, rollout: seen.append(rollout.clone()))
    built.trainer.train()
    built.trainer.collector.shutdown()
    rollouts = torch.cat([rollout.reshape(-1) for rollout in seen])
    assert set(rollouts.keys()) == {"observation", "action", "next"}
    assert 100 < rollouts["action"].sum() < 200
    best = policy.act(rollouts["observation"].numpy(), None)
    in_torch = policy(rollouts.select("observation"))["action"]
    assert best.tolist() == in_torch.tolist()


def test_without_epsilon_it_collects_what_is_best(make: Any) -> None:
    algo = {"epsilon_start": 0.0, "epsilon_end": 0.0, "lr": 1e-12}
    trainer = make(tiny_dqn(algo=algo))
    trainer.register_hook("post_collect", lambda t, rollout: seen.append(rollout.clone()))
    seen: list[Any] = []
    trainer.train()
    for rollout in seen[10:]:
        best = trainer.collector.policy.policy(rollout.select("observation"))["action"]
        assert torch.equal(rollout["action"], best)


def test_the_action_of_a_distribution_is_that_of_the_largest_mean() -> None:
    built = build(tiny_c51())
    built.trainer.collector.shutdown()
    data = TensorDict({"observation": 3 * torch.randn(200, 4)}, [200])
    expected = built.trainer.phases[0].loss.value_network(data.clone())["action"]
    assert torch.equal(built.policy(data)["action"], expected)
    assert built.policy.act(data["observation"].numpy(), None).tolist() == expected.tolist()
    assert 0 < expected.sum() < 200


# --------------------------------------------------------------- what is refused


@pytest.mark.parametrize("num", [2, 5])
def test_it_acts_in_every_discrete_space(make: Any, num: int) -> None:
    """The environment itself checks that actions belong to its space."""
    space = gym.spaces.Discrete(num, start=3)
    name = register_spaces("Numbers", gym.spaces.Box(-1, 1, (2,)), space)
    for tiny in (tiny_dqn, tiny_c51):
        trainer, seen = make(tiny(env_config(name, num_envs=2), total_frames=100)), []
        trainer.register_hook(
            "post_collect", lambda t, rollout, s=seen: s.append(rollout["action"])
        )
        trainer.train()
        assert torch.cat(seen, 1).unique().tolist() == list(range(num))


@pytest.mark.parametrize(
    ("support", "key", "allowed"),
    [
        ({"v_min": 0.0, "v_max": 5.0}, "algo.v_max", "at least "),
        ({"v_min": 3.0, "v_max": 100.0}, "algo.v_min", "at most 1;"),  # the last step's
    ],
)
def test_a_support_that_random_actions_leave_is_refused(
    support: dict[str, float], key: str, allowed: str
) -> None:
    with pytest.raises(ConfigError, match="random actions have that discounted return") as caught:
        build(tiny_c51(algo=support))
    assert caught.value.key == key
    assert allowed in str(caught.value)


def test_a_support_is_refused_to_all_seeds_or_to_none() -> None:
    """About half of all random episodes of CartPole have a return above 20, and none above 100."""
    said = set()
    for seed in range(6):
        with pytest.raises(ConfigError) as caught:
            build(tiny_c51(algo={"v_min": 0.0, "v_max": 20.0}, seed=seed))
        said.add(str(caught.value))
        build(tiny_c51(seed=seed)).trainer.collector.shutdown()
    assert len(said) == 1
    least = float(said.pop().partition("at least ")[2].partition(";")[0])
    assert least > 30  # the best of some forty episodes


def test_looking_at_the_support_changes_nothing(make: Any, monkeypatch: Any) -> None:
    from trainers.algorithms import c51

    states = []
    for rewards in (c51._random_rewards, lambda config: []):
        monkeypatch.setattr(c51, "_random_rewards", rewards)
        trainer = make(tiny_c51())
        trainer.train()
        states.append(trainer.state_dict())
    assert_same(*states, ignoring=("/stopwatch",))


def test_of_a_policy_alone_no_support_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    from trainers.algorithms import c51

    monkeypatch.setattr(c51, "_random_rewards", None)
    build(tiny_c51(), will_train=False).trainer.collector.shutdown()
    with pytest.raises(TypeError):
        build(tiny_c51())


def test_an_environment_that_fails_is_left_to_the_run(make: Any) -> None:
    class Broken(gym.Env):
        observation_space = gym.spaces.Box(-1, 1, (2,))
        action_space = gym.spaces.Discrete(2)

        def reset(self, **given: Any) -> Any:
            raise RuntimeError("the simulator gave up")

    gym.register("tests/BrokenChoice-v0", Broken, disable_env_checker=True)
    trainer = make(tiny_c51(env_config("tests/BrokenChoice-v0")))
    with pytest.raises(RuntimeError, match="gave up"):
        trainer.train()


# ------------------------------------------------------------- TorchRL's own parts


def test_torchrl_s_collector_loss_and_buffer_train() -> None:
    torch.manual_seed(0)
    env = GymEnv("CartPole-v1", device="cpu", categorical_action_encoding=True)
    actor = QValueActor(mlp(4, 2, [8]), in_keys=["observation"], spec=env.action_spec)
    loss = DQNLoss(actor, double_dqn=True)
    loss.make_value_estimator(gamma=0.9)
    explorer = TensorDictSequential(actor, EGreedyModule(env.action_spec))
    trainer = DQNTrainer(
        collector=Collector(
            env,
            explorer,
            frames_per_batch=4,
            total_frames=40,
            auto_register_policy_transforms=False,
        ),
        loss_module=loss,
        optimizer=torch.optim.Adam(loss.parameters()),
        replay_buffer=TensorDictReplayBuffer(storage=LazyTensorStorage(100), batch_size=8),
        total_frames=40,
        config=DQNConfig(batch_size=8, init_random_frames=12),
    )
    assert owner(trainer, AnnealEpsilon) is None
    before = parameters(loss)
    trainer.train()
    assert (trainer.frames, trainer.updates) == (40, 28)
    assert not any(map(torch.equal, before, parameters(loss)))

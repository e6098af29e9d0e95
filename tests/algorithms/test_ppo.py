"""Proximal policy optimization: its parts put together."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from forms import FORMS
from keywords import configured
from support.advantages import slow_advantage
from support.algorithms import tiny, tiny_ppo
from support.environments import env_config, register_spaces
from support.states import assert_same, loss_of, owner, parameters, rollouts_of
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torch.optim import Adam
from torchrl.collectors import Collector
from torchrl.data import Bounded, Categorical
from torchrl.envs import GymEnv
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import NormalParamExtractor, ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import ClipPPOLoss, KLPENPPOLoss

from trainers import PPOConfig, PPOTrainer, plugins
from trainers.algorithms.on_policy import make_networks
from trainers.algorithms.ppo import LOSSES, PPO
from trainers.build import build
from trainers.config import NetworkConfig
from trainers.environments.envs import Envs
from trainers.hooks import (
    AdaptBeta,
    Advantage,
    Evaluate,
    LogLosses,
    ScaleReward,
    UpdateNormalizer,
)
from trainers.networks.normalization import RunningNorm
from trainers.policies.episodes import run_episodes
from trainers.trainer import Trainer

CARTPOLE = env_config("CartPole-v1")
FOUR = env_config("Pendulum-v1", num_envs=4, max_episode_steps=6)
TALE = env_config(num_envs=2, kwargs={"lengths": (3, 5)})

VARIANTS = {form: (each.env, each.algo) for (name, form), each in FORMS.items() if name == "ppo"}
variants = pytest.mark.parametrize(("env", "algo"), VARIANTS.values(), ids=VARIANTS)


def norm_of(trainer: Trainer) -> RunningNorm:
    """The normaliser of the observations."""
    return owner(trainer, UpdateNormalizer).norm


# --------------------------------------------------------------------- counting


@pytest.mark.parametrize(
    ("num_envs", "frames", "size", "updates"),
    [(1, 16, 8, 2), (4, 16, 16, 1), (2, 10, 4, 3), (1, 5, 1, 5)],
)
def test_frames_and_updates_are_counted(
    make: Any, num_envs: int, frames: int, size: int, updates: int
) -> None:
    algo = {"frames_per_batch": frames, "minibatch_size": size, "num_epochs": 3}
    env = env_config("Pendulum-v1", num_envs=num_envs)
    trainer = make(tiny_ppo(env, algo, total_frames=2 * frames))
    seen = rollouts_of(trainer)
    trainer.train()
    assert [list(rollout.batch_size) for rollout in seen] == [[num_envs, frames // num_envs]] * 2
    assert (trainer.frames, trainer.updates) == (2 * frames, 2 * 3 * updates)


def test_the_timetable(make: Any) -> None:
    algo = {"loss": "kl", "target_kl": 0.1, "recompute_advantage": False}
    assert [line.split() for line in str(make(tiny_ppo(algo=algo))).splitlines()[1:]] == [
        ["setup", "weight_sync"],
        ["post_collect", "-"],
        ["pre_epoch", "scale_reward", "(conditional),", "advantage", "(conditional),", "target_kl"],
        ["process_optim_batch", "minibatches,", "anneal_lr_0"],
        ["post_loss", "-"],
        ["post_backward", "clip_grad_norm"],
        ["post_optim", "clip_grad_norm,", "target_kl,", "adapt_beta"],
        ["post_steps", "update_normalizer,", "weight_sync,", "adapt_beta"],
        ["checkpoint", "-"],
        ["shutdown", "-"],
    ]  # fmt: skip


# --------------------------------------------------------------------- learning


@variants
def test_the_first_ratio_of_every_iteration_is_one(make: Any, env: Any, algo: Any) -> None:
    trainer = make(tiny_ppo(env, {**algo, "lr": 0.01}))
    actor, ratios, ratios_later = loss_of(trainer).actor_network, [], []

    def note(trainer: Trainer, rollout: Any, into: list[float], epoch: int) -> None:
        if trainer.epoch == epoch:
            log_prob = actor.get_dist(rollout.clone()).log_prob(rollout["action"])
            into += (log_prob - rollout["action_log_prob"]).exp().flatten().tolist()

    trainer.register_hook("pre_epoch", partial(note, into=ratios, epoch=0), name="first")
    trainer.register_hook("pre_epoch", partial(note, into=ratios_later, epoch=1), name="second")
    first_losses: list[dict[str, float]] = []

    def note_loss(trainer: Trainer, batch: Any, losses: Any) -> None:
        if trainer.epoch == trainer.updates_in_epoch == 0:
            first_losses.append({k: float(v.detach().abs().max()) for k, v in losses.items()})

    trainer.register_hook("post_loss", note_loss)
    trainer.train()
    assert len(ratios) == 48
    assert ratios == pytest.approx([1.0] * 48, abs=1e-5)
    assert max(abs(ratio - 1) for ratio in ratios_later) > 1e-3
    assert len(first_losses) == 3
    for losses in first_losses:
        if "delay_actor" not in algo:  # else it is to the older actor
            assert losses["kl_approx"] < 1e-5
        assert losses.get("kl", 0.0) < 1e-5
        assert losses.get("max_ratio", 1.0) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("kind", ["gae", "td_lambda", "td1", "td0", "vtrace"])
@pytest.mark.parametrize("shared", [False, True])
def test_advantages_of_collected_rollouts(make: Any, kind: str, shared: bool) -> None:
    """Episodes of three and five steps, terminated or truncated, in rollouts of eight."""
    algo = {"value_estimator": kind, "shared_trunk": shared, "gamma": 0.9, "gae_lambda": 0.8}
    trainer = make(tiny_ppo(TALE, algo))
    critic = owner(trainer, Advantage).estimator.value_network
    ends = dict.fromkeys(("terminated", "truncated"), 0)

    def compare(trainer: Trainer, rollout: Any) -> None:
        if kind == "vtrace" and trainer.epoch > 0:
            return  # the policy is another one than that which acted
        # A step later in the same episode, at its end as well.
        here, there = rollout["observation"], rollout["next", "observation"]
        assert torch.equal(there, here + torch.tensor([0.0, 1.0, 0.0, 0.0]))
        expected = slow_advantage(
            rollout,
            lambda o: critic(TensorDict(observation=o))["state_value"],
            "td1" if kind == "vtrace" else kind,  # what the present policy did
            0.9,
            0.8,
        )
        for key, values in zip(("advantage", "value_target"), expected, strict=True):
            torch.testing.assert_close(rollout[key], values, rtol=1e-4, atol=1e-5)
        for key in ends:
            ends[key] += int(rollout["next", key][:, :-1].sum())

    trainer.register_hook("pre_epoch", compare)
    trainer.train()
    assert min(ends.values()) >= 2


@pytest.mark.parametrize(("name", "weighs"), [("ppo", False), ("a2c", True), ("reinforce", True)])
def test_v_trace_s_weights_are_in_advantages_or_in_the_ratio(
    make: Any, name: str, weighs: bool
) -> None:
    trainer = make(tiny(name, algo={"value_estimator": "vtrace"}))
    assert owner(trainer, Advantage).estimator.weighs == weighs


@pytest.mark.parametrize("again", [True, False])
def test_advantages_are_computed_once_or_every_epoch(make: Any, again: bool) -> None:
    trainer = make(tiny_ppo(algo={"recompute_advantage": again, "lr": 0.01}, total_frames=16))
    seen = rollouts_of(trainer, "pre_epoch")
    trainer.train()
    first, second = (rollout["advantage"] for rollout in seen)
    assert torch.equal(first, second) != again


def test_rewards_are_scaled_once_an_iteration_and_logged_raw(make: Any) -> None:
    trainer = make(tiny_ppo())
    raw, scaled = rollouts_of(trainer), []
    reward = ("next", "reward")
    trainer.register_hook("pre_epoch", lambda t, rollout: scaled.append(rollout[reward].clone()))
    trainer.train()
    assert float(owner(trainer, ScaleReward).statistics.count) == 48
    assert len(scaled) == 6
    for index, rollout in enumerate(raw):
        assert torch.equal(scaled[2 * index], scaled[2 * index + 1])
        ratio = rollout[reward] / scaled[2 * index]
        torch.testing.assert_close(ratio, ratio[:1, :1].expand_as(ratio))
        assert abs(float(ratio[0, 0]) - 1) > 1e-3


def test_minibatches_cover_a_rollout_once_an_epoch(make: Any) -> None:
    trainer, orders = make(tiny_ppo(FOUR, {"minibatch_size": 5})), []
    seen = rollouts_of(trainer)

    def note(trainer: Trainer, batch: Any, losses: Any) -> None:
        if trainer.updates_in_epoch == 1:
            orders.append([])
        orders[-1] += batch["observation"].tolist()

    trainer.register_hook("post_optim", note)
    trainer.train()
    assert len(orders) == 6
    for index, order in enumerate(orders):
        assert sorted(order) == sorted(seen[index // 2]["observation"].reshape(16, 3).tolist())
    assert all(orders[2 * i] != orders[2 * i + 1] for i in range(3))


@pytest.mark.parametrize("stage", ["post_collect", "pre_epoch"])
@pytest.mark.parametrize("times", [0.5, 2])
def test_minibatches_cover_what_a_hook_makes_of_a_rollout(
    make: Any, stage: str, times: float
) -> None:
    trainer, frames = make(tiny_ppo(FOUR, {"minibatch_size": 5, "num_epochs": 1})), []

    def change(trainer: Trainer, rollout: Any) -> TensorDict:
        return rollout[:2] if times < 1 else torch.cat([rollout, rollout])

    trainer.register_hook(stage, change)
    trainer.register_hook("post_optim", lambda trainer, batch, losses: frames.append(len(batch)))
    trainer.train()
    assert sum(frames) == times * trainer.frames


@pytest.mark.parametrize("again", [False, True])
def test_what_a_hook_writes_into_a_rollout_is_learnt_from_in_that_epoch(
    make: Any, again: bool
) -> None:
    trainer, seen = make(tiny_ppo(FOUR, {"recompute_advantage": again})), []

    def write(trainer: Trainer, rollout: TensorDict) -> None:
        rollout["advantage"].fill_(100 * trainer.frames + trainer.epoch)

    def note(trainer: Trainer, batch: TensorDict, losses: TensorDict) -> None:
        seen.append((batch["advantage"] == 100 * trainer.frames + trainer.epoch).all())

    trainer.register_hook("pre_epoch", write)
    trainer.register_hook("post_optim", note)
    trainer.train()
    assert all(seen)


# ----------------------------------------------------------- what reaches the loss

KEYWORDS: dict[str, Any] = {
    "entropy_bonus": False,
    "entropy_coeff": 0.03,
    "samples_mc_entropy": 3,
    "critic_coeff": 0.7,
    "loss_critic_type": "smooth_l1",
    "normalize_advantage": False,
    "clip_value": 0.3,
    "max_importance_ratio": 9.0,
    "delay_actor": True,
    "separate_losses": True,
    "functional": True,
    "reduction": "sum",
}
OWN: dict[str, dict[str, Any]] = {
    "clip": {"clip_epsilon": 0.1},
    "kl": {"beta": 2.0, "dtarg": 0.5, "increment": 4.0, "decrement": 0.1, "samples_mc_kl": 5},
    "plain": {},
}


@pytest.mark.parametrize("kind", LOSSES)
def test_every_keyword_reaches_the_loss(make: Any, kind: str) -> None:
    loss_class, given = LOSSES[kind], KEYWORDS | OWN[kind]
    assert configured("ppo", loss_class) == given.keys()
    trainer = make(tiny_ppo(algo={"loss": kind, **given}))
    loss, adapt = loss_of(trainer), owner(trainer, AdaptBeta)
    assert type(loss) is loss_class
    taken_over = {"increment", "decrement"} if kind == "kl" else set()
    for name, value in given.items():
        found = getattr(adapt if name in taken_over else loss, name)
        found = found.item() if isinstance(found, torch.Tensor) else found
        assert found == (pytest.approx(value) if isinstance(value, float) else value), name
    if kind == "kl":
        assert (loss.increment, loss.decrement) == (1.0, 1.0)


@pytest.mark.parametrize(("given", "expected"), [(False, None), (True, 0.25), (0.5, 0.5)])
def test_the_value_s_clip(make: Any, given: Any, expected: float | None) -> None:
    loss = loss_of(make(tiny_ppo(algo={"clip_value": given, "clip_epsilon": 0.25})))
    assert (loss.clip_value if expected is None else float(loss.clip_value)) == expected


def test_the_ratio_may_be_clipped_above_elsewhere_than_below(make: Any) -> None:
    """Both bounds fall over the run."""
    clips = {"clip_epsilon": 0.1, "clip_epsilon_high": 0.3, "clip_schedule": "linear"}
    trainer, seen = make(tiny_ppo(algo=clips)), []
    loss = loss_of(trainer)
    bounds = {name for name, _ in loss.named_buffers() if name.startswith("clip_epsilon")}
    assert bounds < set(PPO.settings)

    def note(trainer: Trainer, rollout: Any) -> None:
        seen.append([float(loss.clip_epsilon_low), float(loss.clip_epsilon_high)])

    trainer.register_hook("post_steps", note)
    trainer.train()
    np.testing.assert_allclose(seen, np.outer([1, 2 / 3, 1 / 3], [0.1, 0.3]), rtol=1e-6)


def test_an_older_actor_follows_the_present_one(make: Any) -> None:
    algo = {"delay_actor": True, "functional": True, "tau": 0.3, "normalize_observation": False}
    trainer = make(tiny_ppo(algo=algo | {"lr": 0.01}))
    loss = loss_of(trainer)
    older = [each.clone() for each in loss.target_actor_network_params.values(True, True)]

    def follow(trainer: Trainer, batch: Any, losses: Any) -> None:
        present = loss.actor_network_params.data.values(True, True)
        for mine, theirs in zip(older, present, strict=True):
            mine.lerp_(theirs, 0.3)

    trainer.register_hook("post_optim", follow)
    trainer.train()
    assert trainer.updates == 12
    for mine, found in zip(older, loss.target_actor_network_params.values(True, True), strict=True):
        torch.testing.assert_close(mine, found)


def test_a_loss_of_a_plugin(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(KLPENPPOLoss):
        pass

    monkeypatch.setattr(plugins.losses, "get", lambda name: {"mine": Mine}[name])
    trainer = make(tiny_ppo(algo={"loss": "kl", "loss_module": "mine", "dtarg": 0.5}))
    assert type(loss_of(trainer)) is Mine
    assert owner(trainer, AdaptBeta).target == 0.5
    trainer.train()


# -------------------------------------------------------------------- schedules


def test_rates_and_clips_fall_over_the_run(make: Any) -> None:
    linear = {"lr_schedule": "linear", "clip_schedule": "linear", "clip_value": True}
    rates = {"lr": 1.0, "actor_lr": 0.5, "clip_epsilon": 0.3, "max_grad_norm": 1e-9}
    trainer, seen = make(tiny_ppo(algo={**linear, **rates})), []
    (optimizer,), loss = trainer.phases[0].optimizers, loss_of(trainer)

    def note(trainer: Trainer, batch: Any, losses: Any) -> None:
        clips = (float(loss.clip_epsilon), float(loss.clip_value))
        seen.append([*(group["lr"] for group in optimizer.param_groups), *clips])

    trainer.register_hook("post_optim", note)
    trainer.train()
    first = np.array([0.5, 1.0, 0.3, 0.3])
    expected = np.repeat([first, first * 2 / 3, first / 3], 4, axis=0)
    np.testing.assert_allclose(seen, expected, rtol=1e-6)


def test_without_schedules_they_stay(make: Any) -> None:
    trainer = make(tiny_ppo(algo={"lr_schedule": "constant", "lr": 1e-3}))
    trainer.train()
    (optimizer,) = trainer.phases[0].optimizers
    assert [group["lr"] for group in optimizer.param_groups] == [1e-3, 1e-3]
    assert float(loss_of(trainer).clip_epsilon) == pytest.approx(0.2)


@pytest.mark.parametrize(("target_kl", "epochs"), [(1e-9, 1), (1e3, 4)])
def test_the_target_kl_ends_the_epochs(make: Any, target_kl: float, epochs: int) -> None:
    algo = {"loss": "kl", "target_kl": target_kl, "num_epochs": 4, "lr": 0.01}
    trainer = make(tiny_ppo(algo=algo))
    trainer.train()
    assert trainer.updates == 3 * epochs * 2


# ------------------------------------------------------------------------- beta


def test_beta_survives_many_small_steps_and_is_logged(make: Any) -> None:
    """TorchRL's own would be 0 after about 150 updates."""
    algo = {"loss": "kl", "lr": 1e-9, "frames_per_batch": 4, "minibatch_size": 2}
    trainer, betas = make(tiny_ppo(algo=algo, total_frames=160)), []
    loss, moved = loss_of(trainer), []
    trainer.register_hook("post_optim", lambda t, batch, losses: moved.append(float(loss.beta)))

    def note(trainer: Trainer, rollout: Any) -> None:
        betas.append(trainer.metrics.flush()["train/beta"])
        assert betas[-1] == float(loss.beta)

    trainer.register_hook("post_steps", note)
    trainer.train()
    assert betas[:3] == [0.5, 0.25, 0.125]
    assert moved[:8] == [1.0] * 4 + [0.5] * 4  # once an iteration
    assert min(betas) == betas[-1] == pytest.approx(1e-4)


# ---------------------------------------------------------------- shared trunk


def trunk_and_loss(make: Any, **algo: Any) -> tuple[Any, Any, Any]:
    """The trunk, the loss, and a minibatch that was collected by an older policy."""
    config = tiny_ppo(algo={"shared_trunk": True, "normalize_advantage": False, **algo})
    trainer = make(config)
    batches: list[Any] = []
    trainer.register_hook("post_loss", lambda t, batch, losses: batches.append(batch.clone()))
    trainer.train()
    loss = loss_of(trainer)
    trunk = next(
        m for m in loss.actor_network.modules() if getattr(m, "out_keys", None) == ["hidden"]
    )
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.mul_(1.5)
    loss.zero_grad()
    return trunk, loss, batches[0]


@pytest.mark.parametrize("functional", [False, True])
@pytest.mark.parametrize(("kind", "calls"), [("clip", 1), ("plain", 1), ("kl", 2)])
def test_the_trunk_is_evaluated_with_the_policy_only(
    make: Any, kind: str, calls: int, functional: bool
) -> None:
    """TorchRL's KL loss evaluates the policy twice; the value never needs a trunk of its own."""
    trunk, loss, batch = trunk_and_loss(make, loss=kind, functional=functional)
    seen: list[int] = []
    trunk.module.register_forward_hook(lambda *given: seen.append(1))
    loss(batch)
    assert len(seen) == calls


@pytest.mark.parametrize("functional", [False, True])
@pytest.mark.parametrize("separate", [False, True])
def test_the_value_reads_the_trunk_as_it_is_now(
    make: Any, functional: bool, separate: bool
) -> None:
    trunk, loss, batch = trunk_and_loss(make, functional=functional, separate_losses=separate)
    losses = loss(batch)
    fresh = trunk.module(batch["observation"])
    assert not torch.allclose(fresh, batch["hidden"])
    value = loss.critic_network.module(fresh)
    expected = 0.5 * (value - batch["value_target"]).square().mean()
    torch.testing.assert_close(losses["loss_critic"], expected)
    losses["loss_critic"].backward()
    weight = next(p for name, p in loss.named_parameters() if "critic" in name)
    assert weight.grad is not None
    moved = [p.grad is not None and bool(p.grad.any()) for p in trunk.parameters()]
    assert moved == [not separate] * 2


def test_apart_they_share_no_parameter(make: Any) -> None:
    loss = loss_of(make(tiny_ppo()))
    actor, critic = (
        {id(p) for p in network.parameters()}
        for network in (loss.actor_network, loss.critic_network)
    )
    assert actor
    assert critic
    assert not actor & critic


# ------------------------------------------------------------------- the policy


@pytest.mark.parametrize("env", [None, CARTPOLE], ids=["continuous", "discrete"])
@pytest.mark.parametrize("shared", [False, True])
def test_the_deterministic_action_is_the_mode(env: Any, shared: bool) -> None:
    built = build(tiny_ppo(env, {"lr": 0.05, "shared_trunk": shared}))
    built.trainer.train()
    size = 3 if env is None else 4
    data = TensorDict(observation=torch.randn(50, size)).auto_batch_size_(1)
    with set_exploration_type(ExplorationType.DETERMINISTIC), torch.no_grad():
        mode = built.policy(data.clone())
    expected = mode["loc"] if env is None else mode["logits"].argmax(-1)
    assert torch.equal(mode["action"], expected)
    with torch.no_grad():
        assert not torch.equal(built.policy(data.clone())["action"], expected)


@pytest.mark.parametrize("log_std", [0.0, -1.0])
def test_the_deviation_is_a_parameter_or_predicted(log_std: float) -> None:
    observation = 5 * torch.randn(20, 3)
    networks = [
        make_networks(3, Bounded(-1, 1, (2,)), NetworkConfig(hidden=[8]), PPOConfig(**config))
        for config in ({"log_std_init": log_std}, {"predict_std": True})
    ]
    with torch.no_grad():
        apart, predicted = (
            n.actor(TensorDict(observation=observation).auto_batch_size_(1))["scale"]
            for n in networks
        )
    torch.testing.assert_close(apart, torch.full((20, 2), log_std).exp())
    assert predicted.std(0).min() > 0


@pytest.mark.parametrize("spec", [Bounded(-1, 1, (2,)), Categorical(3)])
@pytest.mark.parametrize("shared", [False, True])
def test_the_first_policy_prefers_nothing(spec: Any, shared: bool) -> None:
    config = PPOConfig(shared_trunk=shared)
    networks = make_networks(3, spec, NetworkConfig(hidden=[64, 64], activation="tanh"), config)
    data = TensorDict(observation=torch.randn(100, 3)).auto_batch_size_(1)
    networks.actor(data)
    networks.critic(data)
    assert data["loc" if "loc" in data else "logits"].abs().max() < 0.1
    assert data["state_value"].abs().max() > 0.1


INFINITE = float("inf")
SPACES = {
    "discrete": gym.spaces.Discrete(3),
    "discrete from 5": gym.spaces.Discrete(3, start=5),
    "negative start": gym.spaces.Discrete(2, start=-1),
    "finite": gym.spaces.Box(np.float32([-2, 0]), np.float32([4, 0.5])),
    "infinite": gym.spaces.Box(-INFINITE, INFINITE, (2,)),
    "half infinite": gym.spaces.Box(0, INFINITE, (2,)),
    "matrix": gym.spaces.Box(-1, 1, (2, 3)),
    "whole numbers": gym.spaces.Box(0, 9, (2,), np.int64),
}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_it_acts_in_every_box_and_discrete_space(make: Any, space: gym.Space) -> None:
    """The environment itself checks that actions belong to its space."""
    name = register_spaces("Anywhere", gym.spaces.Box(-1, 1, (2,)), space)
    trainer = make(tiny_ppo(env_config(name, num_envs=2)))
    seen = rollouts_of(trainer)
    trainer.train()
    assert (trainer.frames, trainer.updates) == (48, 12)
    if isinstance(space, gym.spaces.Discrete):
        actions = torch.stack([rollout["action"] for rollout in seen])
        assert actions.unique().tolist() == list(range(int(space.n)))


# ------------------------------------------------------------------- normaliser


@pytest.mark.parametrize("functional", [False, True])
def test_statistics_are_numpy_s_over_all_frames_and_not_of_the_evaluation(
    make: Any, functional: bool
) -> None:
    trainer = make(tiny_ppo(FOUR, {"functional": functional}))
    seen, norm = rollouts_of(trainer), norm_of(trainer)
    envs = partial(Envs, env_config("Pendulum-v1", max_episode_steps=30))
    evaluate = Evaluate(loss_of(trainer).actor_network, envs, episodes=2)

    def check(trainer: Trainer, rollout: Any) -> None:
        before = {key: value.clone() for key, value in norm.state_dict().items()}
        evaluate(trainer, rollout)
        assert_same(norm.state_dict(), before)
        every = torch.cat([r["observation"].reshape(-1, 3) for r in seen]).double().numpy()
        assert float(norm.count) == len(every) == trainer.frames
        np.testing.assert_allclose(norm.mean.numpy(), every.mean(0), rtol=1e-9)
        np.testing.assert_allclose(norm.var.numpy(), every.var(0), rtol=1e-9)

    trainer.register_hook("post_steps", check)
    trainer.train()
    assert trainer.frames == 48
    # Wherever the loss keeps statistics, they are these.
    for name, buffer in loss_of(trainer).named_buffers():
        if name.endswith(".mean"):
            assert torch.equal(buffer, norm.mean)


def test_the_policy_that_acts_has_the_statistics() -> None:
    built = build(tiny_ppo(algo={"functional": True}))
    built.trainer.train()
    norms = {id(m) for m in built.policy.modules() if isinstance(m, RunningNorm)}
    assert norms == {id(norm_of(built.trainer))}
    assert float(norm_of(built.trainer).count) == 48
    assert any(key.endswith("count") for key in built.policy.state_dict())


def test_evaluating_twice_finds_the_same() -> None:
    built = build(tiny_ppo(CARTPOLE))
    built.trainer.train()
    envs = Envs(CARTPOLE, 2)
    first, again = (run_episodes(built.policy, envs, [1, 2, 3])[0].tolist() for _ in range(2))
    envs.close()
    assert first == again


# ------------------------------------------------------------------------ resume


# ------------------------------------------------------------- TorchRL's own parts


class Parts:
    """What a user of TorchRL has already."""

    def __init__(self, loss_class: Any = ClipPPOLoss, **keywords: Any) -> None:
        torch.manual_seed(0)
        env = GymEnv("Pendulum-v1", device="cpu")
        env.set_seed(0)
        space = env.action_spec.space
        net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2), NormalParamExtractor())
        self.actor = ProbabilisticActor(
            TensorDictModule(net, ["observation"], ["loc", "scale"]),
            in_keys=["loc", "scale"],
            spec=env.action_spec,
            distribution_class=TanhNormal,
            distribution_kwargs={"low": space.low, "high": space.high},
            return_log_prob=True,
        )
        value = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
        self.critic = ValueOperator(value, ["observation"])
        self.loss = loss_class(self.actor, self.critic, **keywords)
        self.collector = Collector(
            env,
            self.actor,
            frames_per_batch=10,
            total_frames=40,
            auto_register_policy_transforms=False,
        )

    def ppo(self, optimizer: Any = None, **given: Any) -> PPOTrainer:
        """Trained with PPO's timetable."""
        return PPOTrainer(
            collector=self.collector,
            loss_module=self.loss,
            optimizer=optimizer or Adam(self.loss.parameters(), lr=0.01),
            total_frames=40,
            config=PPOConfig(minibatch_size=4, num_epochs=2),
            **given,
        )


@pytest.mark.parametrize("functional", [True, False])
@pytest.mark.parametrize("loss_class", LOSSES.values())
@pytest.mark.filterwarnings("ignore:No .* distribution:UserWarning")
def test_torchrl_s_collector_and_loss_train(loss_class: Any, functional: bool) -> None:
    """Rollouts of ten frames are what the collector makes of them, not the configuration."""
    parts = Parts(loss_class, functional=functional)
    trainer = parts.ppo()
    trainer.register_hook("post_optim", LogLosses())
    before = parameters(parts.loss)
    trainer.train()
    assert (trainer.frames, trainer.updates) == (40, 4 * 2 * 3)
    assert not any(map(torch.equal, before, parameters(parts.loss)))
    line = trainer.metrics.flush()
    assert line.keys() >= {"loss/objective", "loss/critic", "train/entropy", "train/kl"}
    if loss_class is KLPENPPOLoss:
        assert 0 < line["train/beta"] < 1.0
        assert float(parts.loss.beta) >= 1e-4  # though the loss was made to adapt by itself


def test_the_loss_s_own_estimator_uses_the_critic_as_it_is() -> None:
    parts = Parts()
    trainer = parts.ppo()
    seen: list[bool] = []

    def compare(trainer: Trainer, rollout: Any) -> None:
        now = parts.critic(rollout.select("observation"))["state_value"]
        seen.append(torch.allclose(rollout["state_value"], now))

    trainer.register_hook("pre_epoch", compare)
    trainer.train()
    assert seen == [True] * 8


def test_two_optimizers_step_together() -> None:
    parts = Parts()
    optimizers = [Adam(parts.actor.parameters(), lr=0.01), Adam(parts.critic.parameters(), lr=0.1)]
    trainer = parts.ppo(optimizer=optimizers)
    before = parameters(parts.loss)
    trainer.train()
    assert not any(map(torch.equal, before, parameters(parts.loss)))
    # A quarter of the run lay ahead of the last rollout.
    assert [o.param_groups[0]["lr"] for o in optimizers] == pytest.approx([0.0025, 0.025])


def test_a_function_does_for_a_loss() -> None:
    parts = Parts()
    trainer = PPOTrainer(
        collector=parts.collector,
        loss_module=lambda batch: parts.loss(batch),
        optimizer=Adam(parts.loss.parameters(), lr=0.01),
        value_estimator=parts.loss.value_estimator,
        total_frames=40,
        config=PPOConfig(minibatch_size=4, num_epochs=2),
    )
    before = parameters(parts.loss)
    trainer.train()
    assert not any(map(torch.equal, before, parameters(parts.loss)))


def test_a_trainer_of_torchrl_parts_can_be_saved(tmp_path: Path) -> None:
    first = Parts().ppo()
    first.train()
    first.save(tmp_path / "c")
    second = Parts().ppo()
    second.load(tmp_path / "c")
    ignored = ("/collector", "/stopwatch")  # TorchRL's collector does not store its environments
    assert_same(second.state_dict(), first.state_dict(), ignored)
    second.collector.shutdown()

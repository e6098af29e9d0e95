"""Advantage actor-critic: its parts put together."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from helpers import env_config, owner, register_spaces, sac_loss, slow_advantage, tiny_a2c
from on_policy_runs import assert_everything_learns, assert_resumes, rollouts_of
from tensordict import TensorDict
from torch.optim import Adam, RMSprop
from torchrl.objectives import A2CLoss

from trainers import A2CConfig, A2CTrainer, checkpoint, plugins
from trainers.build import Built, build
from trainers.config import CollectorConfig, ConfigError
from trainers.hooks import Advantage
from trainers.losses.a2c import FastA2CLoss
from trainers.optimization.optimizers import FlatAdam
from trainers.trainer import Trainer

CARTPOLE = env_config("CartPole-v1")
FOUR = env_config("Pendulum-v1", num_envs=4, max_episode_steps=6)
TALE = env_config(num_envs=2, kwargs={"lengths": (3, 5)})
ASYNC: dict[str, Any] = {"collector": CollectorConfig(async_=True)}

VARIANTS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "continuous": (None, {}, {}),
    "four environments": (FOUR, {"normalize_advantage": True}, {}),
    "discrete": (CARTPOLE, {"entropy_coeff": 0.01}, {}),
    "adam": (None, {"optimizer": "adam"}, {}),
    "not normalised": (None, {"normalize_observation": False, "normalize_reward": False}, {}),
    "shared trunk": (FOUR, {"shared_trunk": True}, {}),
    "functional": (FOUR, {"functional": True}, {}),
    "functional, shared, discrete": (CARTPOLE, {"functional": True, "shared_trunk": True}, {}),
    "separate losses": (
        FOUR,
        {"functional": True, "shared_trunk": True, "separate_losses": True},
        {},
    ),
    "predicted deviation": (None, {"predict_std": True}, {}),
    "v-trace": (FOUR, {"value_estimator": "vtrace"}, ASYNC),
}
variants = pytest.mark.parametrize(("env", "algo", "given"), VARIANTS.values(), ids=VARIANTS)


@pytest.mark.parametrize(("num_envs", "frames"), [(1, 16), (4, 16), (2, 10)])
def test_one_update_on_each_rollout(make: Any, num_envs: int, frames: int) -> None:
    env = env_config("Pendulum-v1", num_envs=num_envs)
    trainer = make(tiny_a2c(env, {"frames_per_batch": frames}, total_frames=3 * frames))
    seen = rollouts_of(trainer, "post_collect")
    shapes: list[Any] = []
    trainer.register_hook("post_loss", lambda t, batch, losses: shapes.append(batch.batch_size))
    trainer.train()
    assert [list(rollout.batch_size) for rollout in seen] == [[num_envs, frames // num_envs]] * 3
    assert shapes == [rollout.batch_size for rollout in seen]
    assert (trainer.frames, trainer.updates) == (3 * frames, 3)


def test_the_timetable(make: Any) -> None:
    trainer = make(tiny_a2c(algo={"normalize_advantage": True}))
    assert [line.split() for line in str(trainer).splitlines()[1:]] == [
        ["setup", "weight_sync"],
        ["post_collect", "-"],
        ["pre_epoch", "scale_reward", "(conditional),", "advantage", "(conditional),",
         "normalize_advantage"],
        ["process_optim_batch", "anneal_lr_0"],
        ["post_loss", "-"],
        ["post_backward", "clip_grad_norm"],
        ["post_optim", "clip_grad_norm"],
        ["post_steps", "update_normalizer,", "weight_sync"],
        ["checkpoint", "-"],
        ["shutdown", "-"],
    ]  # fmt: skip


@variants
def test_everything_learns(make: Any, env: Any, algo: Any, given: Any) -> None:
    assert_everything_learns(make(tiny_a2c(env, algo, **given)))


@variants
def test_a_resumed_run_is_the_straight_run(env: Any, algo: Any, given: Any, tmp_path: Path) -> None:
    assert_resumes(tiny_a2c(env, {**algo, "lr": 0.01}, 64, **given), 32, tmp_path)


@pytest.mark.parametrize("kind", ["gae", "td_lambda", "td1", "td0", "vtrace"])
def test_advantages_of_collected_rollouts(make: Any, kind: str) -> None:
    """Episodes of three and five steps, terminated or truncated, in rollouts of eight."""
    algo = {"value_estimator": kind, "gamma": 0.9, "gae_lambda": 0.8}
    trainer = make(tiny_a2c(TALE, algo))
    critic = owner(trainer, Advantage).estimator.value_network
    ends = dict.fromkeys(("terminated", "truncated"), 0)

    def compare(trainer: Trainer, rollout: Any) -> None:
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


def test_v_trace_weights_what_was_begun_before_the_update(make: Any) -> None:
    """With overlap a rollout's first step is the older policy's, and no other."""
    algo = {"value_estimator": "vtrace", "lr": 0.05, "normalize_observation": False}
    trainer = make(tiny_a2c(FOUR, algo, total_frames=160, **ASYNC))
    actor, ratios = sac_loss(trainer).actor_network, []

    def note(trainer: Trainer, rollout: Any) -> None:
        log_prob = actor.get_dist(rollout.select("observation")).log_prob(rollout["action"])
        ratios.append((log_prob - rollout["action_log_prob"]).exp().detach())

    trainer.register_hook("pre_epoch", note)
    trainer.train()
    later = torch.stack(ratios[1:])
    torch.testing.assert_close(later[..., 1:], torch.ones_like(later[..., 1:]))
    assert (later[..., 0] - 1).abs().max() > 1e-3


def test_normalized_advantages_are_learnt_from(make: Any) -> None:
    trainer = make(tiny_a2c(FOUR, {"normalize_advantage": True}))
    seen: list[Any] = []
    trainer.register_hook("post_loss", lambda t, batch, losses: seen.append(batch["advantage"]))
    trainer.train()
    for advantage in seen:
        assert abs(float(advantage.mean())) < 1e-5
        assert float(advantage.std()) == pytest.approx(1.0, rel=1e-4)


# ----------------------------------------------------------- what reaches the loss

NOT_CONFIGURABLE = {
    *("self", "kwargs", "actor_network", "critic_network", "actor", "critic"),
    *("advantage_key", "value_target_key", "gamma"),  # torchrl's own older names
    "entropy_bonus",  # is there unless entropy_coeff is 0
    "advantage_norm",  # an object; moves only where the loss estimates advantages itself
    "clip_value",  # of the move since the rollout: there is none in its one update
}
KEYWORDS: dict[str, Any] = {
    "entropy_coeff": 0.03,
    "samples_mc_entropy": 3,
    "critic_coeff": 0.7,
    "loss_critic_type": "smooth_l1",
    "separate_losses": True,
    "functional": True,
    "reduction": "sum",
}


def test_every_keyword_reaches_the_loss(make: Any) -> None:
    known = set(inspect.signature(A2CLoss.__init__).parameters)
    assert known - NOT_CONFIGURABLE == KEYWORDS.keys()
    loss = sac_loss(make(tiny_a2c(algo=KEYWORDS)))
    for name, value in KEYWORDS.items():
        if name == "separate_losses":  # leaves no trace without a shared trunk
            continue
        found = getattr(loss, name)
        found = found.item() if isinstance(found, torch.Tensor) else found
        assert found == (pytest.approx(value) if isinstance(value, float) else value), name


@pytest.mark.parametrize("coeff", [0.0, 0.1])
def test_the_entropy_is_there_if_it_counts(make: Any, coeff: float) -> None:
    trainer, seen = make(tiny_a2c(algo={"entropy_coeff": coeff})), []
    trainer.register_hook("post_optim", lambda t, batch, losses: seen.append(set(losses.keys())))
    trainer.train()
    entropy = {"entropy", "loss_entropy"} if coeff else set()
    assert seen == [{"loss_objective", "loss_critic"} | entropy] * 3


def test_a_loss_of_a_plugin(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(A2CLoss):
        pass

    monkeypatch.setattr(plugins.losses, "get", lambda name: {"mine": Mine}[name])
    trainer = make(tiny_a2c(algo={"loss_module": "mine"}))
    assert type(sac_loss(trainer)) is Mine
    trainer.train()


@pytest.mark.parametrize("functional", [False, True])
@pytest.mark.parametrize("separate", [False, True])
def test_the_value_s_loss_trains_a_shared_trunk_unless_kept_out(
    make: Any, functional: bool, separate: bool
) -> None:
    """TorchRL's passes over separate_losses where it is not functional: that is refused."""
    algo = {"shared_trunk": True, "functional": functional, "separate_losses": separate}
    if separate and not functional:
        with pytest.raises(ConfigError, match=r"algo\.functional=true"):
            A2CConfig(**algo)
        return
    trainer, batches = make(tiny_a2c(algo=algo)), []
    trainer.register_hook("post_loss", lambda t, batch, losses: batches.append(batch.clone()))
    trainer.train()
    loss = sac_loss(trainer)
    loss.zero_grad()
    loss(batches[0].exclude("hidden"))["loss_critic"].backward()
    actors = [p for name, p in loss.named_parameters() if name.startswith("actor")]
    moved = any(p.grad is not None and bool(p.grad.any()) for p in actors)
    assert moved != separate


# ------------------------------------------------------------------ the optimizer


@pytest.mark.parametrize(("name", "kind"), [("rmsprop", RMSprop), ("adam", FlatAdam)])
def test_the_optimizer_and_its_rates(make: Any, name: str, kind: type) -> None:
    trainer = make(tiny_a2c(algo={"optimizer": name, "lr": 1e-3, "critic_lr": 2e-3}))
    (optimizer,) = trainer.phases[0].optimizers
    assert type(optimizer) is kind
    groups = {group["name"]: (group["lr"], group["eps"]) for group in optimizer.param_groups}
    assert groups == {"actor": (1e-3, 1e-5), "critic": (2e-3, 1e-5)}
    trainer.train()
    # A third of the run lay ahead of the last rollout.
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates == pytest.approx([1e-3 / 3, 2e-3 / 3])


def test_settings_outlive_a_checkpoint_and_the_rest_does_not(tmp_path: Path) -> None:
    def made(**algo: Any) -> Built:
        built = build(tiny_a2c(algo=algo))
        built.trainer.collector.shutdown()
        return built

    old = made(lr=1e-3, entropy_coeff=0.5, critic_coeff=0.25)
    checkpoint.save(tmp_path / "c", old.trainer.phases[0].state_dict())
    new = made(lr=1e-4, entropy_coeff=0.25, critic_coeff=1.0)
    with new.keeping_settings():
        new.trainer.phases[0].load_state_dict(checkpoint.load(tmp_path / "c"))
    loss = sac_loss(new.trainer)
    assert [float(loss.entropy_coeff), float(loss.critic_coeff)] == pytest.approx([0.25, 1.0])
    (optimizer,) = new.trainer.phases[0].optimizers
    assert {group["lr"] for group in optimizer.param_groups} == {1e-4}


# --------------------------------------------------------------- wrong pairings, Python


def test_what_it_cannot_act_in_is_refused() -> None:
    space = gym.spaces.MultiDiscrete([2, 3])
    name = register_spaces("A2CNowhere", gym.spaces.Box(-1, 1, (2,)), space)
    with pytest.raises(ConfigError, match="Box or Discrete"):
        build(tiny_a2c(env_config(name)))


def test_older_steps_need_v_trace() -> None:
    with pytest.raises(ConfigError, match="present policy") as caught:
        tiny_a2c(FOUR, **ASYNC)
    assert caught.value.key == "collector.async"


def test_from_python(make: Any) -> None:
    """TorchRL's own loss with its own estimator."""
    other = make(tiny_a2c(FOUR))
    loss = sac_loss(other)
    assert type(loss) is FastA2CLoss
    theirs = A2CLoss(loss.actor_network, loss.critic_network)
    trainer = A2CTrainer(
        collector=other.collector,
        loss_module=theirs,
        optimizer=Adam(theirs.parameters(), 1e-3),
        total_frames=48,
        config=A2CConfig(frames_per_batch=16),
    )
    trainer.train()
    assert (trainer.frames, trainer.updates) == (48, 3)

"""Advantage actor-critic: its parts put together."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from keywords import configured
from support.advantages import slow_advantage
from support.algorithms import tiny_a2c
from support.environments import env_config
from support.states import loss_of, owner, rollouts_of
from tensordict import TensorDict
from torch.optim import Adam, RMSprop
from torchrl.objectives import A2CLoss

from trainers import A2CConfig, A2CTrainer, plugins
from trainers.config import CollectorConfig, ConfigError
from trainers.hooks import Advantage
from trainers.losses.a2c import FastA2CLoss
from trainers.optimization.optimizers import FlatAdam
from trainers.trainer import Trainer

FOUR = env_config("Pendulum-v1", num_envs=4, max_episode_steps=6)
TALE = env_config(num_envs=2, kwargs={"lengths": (3, 5)})
ASYNC: dict[str, Any] = {"collector": CollectorConfig(async_=True)}


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
    actor, ratios = loss_of(trainer).actor_network, []

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
    assert configured("a2c", A2CLoss) == KEYWORDS.keys()
    loss = loss_of(make(tiny_a2c(algo=KEYWORDS)))
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
    assert type(loss_of(trainer)) is Mine
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
    loss = loss_of(trainer)
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


# --------------------------------------------------------------- wrong pairings, Python


def test_older_steps_need_v_trace() -> None:
    with pytest.raises(ConfigError, match="off-policy data needs") as caught:
        tiny_a2c(FOUR, **ASYNC)
    assert caught.value.key == "collector.async"


def test_from_python(make: Any) -> None:
    """TorchRL's own loss with its own estimator."""
    other = make(tiny_a2c(FOUR))
    loss = loss_of(other)
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

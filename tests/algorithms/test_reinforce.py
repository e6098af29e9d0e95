"""REINFORCE: its parts put together, with and without a baseline."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from keywords import configured
from support.advantages import slow_advantage
from support.algorithms import tiny_reinforce
from support.environments import env_config
from support.states import loss_of, owner, rollouts_of
from tensordict import TensorDict
from torch.optim import Adam
from torchrl.objectives import ReinforceLoss

from trainers import ReinforceConfig, ReinforceTrainer, plugins
from trainers.config import ConfigError
from trainers.hooks import Advantage, LogLosses, WholeEpisodes
from trainers.losses.reinforce import BaselineReinforceLoss, PolicyGradientLoss
from trainers.trainer import Trainer

FOUR = env_config("Pendulum-v1", num_envs=4, max_episode_steps=6)
TALE = env_config(num_envs=2, kwargs={"lengths": (3, 5)})
ALONE = {"baseline": False}


@pytest.mark.parametrize(
    ("baseline", "expected"),
    [
        (True, ["scale_reward", "(conditional),", "advantage", "(conditional)"]),
        (False, ["scale_reward", "(conditional),", "whole_episodes", "(conditional)"]),
    ],
)
def test_the_timetable(make: Any, baseline: bool, expected: list[str]) -> None:
    trainer = make(tiny_reinforce(algo={"baseline": baseline}))
    assert [line.split() for line in str(trainer).splitlines()[1:]] == [
        ["setup", "weight_sync"],
        ["post_collect", "-"],
        ["pre_epoch", *expected],
        ["process_optim_batch", "anneal_lr_0"],
        ["post_loss", "-"],
        ["post_backward", "clip_grad_norm"],
        ["post_optim", "clip_grad_norm"],
        ["post_steps", "update_normalizer,", "weight_sync"],
        ["checkpoint", "-"],
        ["shutdown", "-"],
    ]


# ------------------------------------------------------------------- with a baseline


@pytest.mark.parametrize("kind", ["gae", "td_lambda", "td1", "td0", "vtrace"])
def test_advantages_of_collected_rollouts(make: Any, kind: str) -> None:
    """Episodes of three and five steps, terminated or truncated, in rollouts of eight."""
    algo = {"value_estimator": kind, "gamma": 0.9}
    algo |= {"gae_lambda": 0.8} if kind in ("gae", "td_lambda") else {}
    trainer = make(tiny_reinforce(TALE, algo))
    critic = owner(trainer, Advantage).estimator.value_network

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

    trainer.register_hook("pre_epoch", compare)
    trainer.train()
    assert trainer.updates == 3


@pytest.mark.parametrize(
    ("algo", "names"), [({}, {"loss/actor", "loss/critic"}), (ALONE, {"loss/actor"})]
)
def test_the_losses_have_their_usual_names(make: Any, algo: Any, names: set[str]) -> None:
    trainer = make(tiny_reinforce(FOUR, algo))
    trainer.register_hook("post_optim", LogLosses())
    trainer.train()
    assert {key for key in trainer.metrics.flush() if key.startswith("loss/")} == names


KEYWORDS: dict[str, Any] = {
    "loss_critic_type": "smooth_l1",
    "separate_losses": True,
    "functional": True,
    "reduction": "sum",
}


def test_every_keyword_reaches_the_loss(make: Any) -> None:
    assert configured("reinforce", ReinforceLoss) == KEYWORDS.keys()
    loss = loss_of(make(tiny_reinforce(algo=KEYWORDS)))
    assert type(loss) is BaselineReinforceLoss
    found = (loss.loss_critic_type, loss.functional, loss.reduction)
    assert found == ("smooth_l1", True, "sum")


# ------------------------------------------------------------------ without a baseline


def test_only_frames_with_a_known_return_are_learnt_from(make: Any) -> None:
    """By the rewards of whole episodes, put together from all rollouts."""
    env = env_config(num_envs=2, kwargs={"lengths": (3, 11)})
    algo = {**ALONE, "gamma": 0.9, "normalize_reward": False}
    trainer = make(tiny_reinforce(env, algo, total_frames=160))
    rollouts, learnt = rollouts_of(trainer, "post_collect"), []
    trainer.register_hook("post_loss", lambda t, batch, losses: learnt.append(batch.clone()))
    trainer.train()
    whole, expected = torch.cat(rollouts, 1), {}
    for frames in whole:
        returns, known = 0.0, False
        for frame in reversed(range(frames.batch_size[0])):
            done = bool(frames[frame]["next", "done"])
            known |= done
            going_on = 0.0 if done else 0.9
            returns = float(frames[frame]["next", "reward"]) + going_on * returns
            if known:
                expected[tuple(frames[frame]["observation"].tolist())] = returns
    found = {
        tuple(frame["observation"].tolist()): float(frame["advantage"])
        for frame in torch.cat(learnt)
    }
    assert sum(len(batch) for batch in learnt) == len(found) > 130
    assert found.keys() == expected.keys()
    for observation, returns in expected.items():
        assert found[observation] == pytest.approx(returns, rel=1e-4, abs=1e-5)


def test_no_update_while_no_episode_has_ended(make: Any) -> None:
    env = env_config("Pendulum-v1", max_episode_steps=20)
    trainer = make(tiny_reinforce(env, ALONE, total_frames=80))
    updates: list[int] = []
    trainer.register_hook("post_steps", lambda t, rollout: updates.append(t.updates))
    trainer.train()
    # Episodes end at 20, 40, 60 and 80.
    assert updates == [0, 1, 2, 3, 4]


def test_it_has_no_critic(make: Any) -> None:
    trainer = make(tiny_reinforce(algo=ALONE))
    assert type(loss_of(trainer)) is PolicyGradientLoss
    assert owner(trainer, WholeEpisodes) is not None
    (optimizer,) = trainer.phases[0].optimizers
    assert [group["name"] for group in optimizer.param_groups] == ["actor"]


# --------------------------------------------------------------- wrong pairings, Python


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("value_estimator", "gae"),
        ("gae_lambda", 0.5),
        ("critic_lr", 1e-3),
        ("loss_critic_type", "l1"),
        ("functional", True),
        ("shared_trunk", True),
        ("loss_module", "torchrl"),
    ],
)
def test_what_is_of_a_critic_needs_a_baseline(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=r"algo\.baseline=false") as caught:
        ReinforceConfig(baseline=False, **{key: value})
    assert caught.value.key == f"algo.{key}"
    given: dict[str, Any] = {"value_estimator": "gae", key: value}
    assert getattr(ReinforceConfig(**given), key) == value


@pytest.mark.parametrize("baseline", [True, False])
def test_a_loss_of_a_plugin(make: Any, baseline: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class WithCritic(ReinforceLoss):
        pass

    class Alone(PolicyGradientLoss):
        pass

    mine = WithCritic if baseline else Alone
    monkeypatch.setattr(plugins.losses, "get", lambda name: {"mine": mine}[name])
    trainer = make(tiny_reinforce(FOUR, {"baseline": baseline, "loss_module": "mine"}))
    assert type(loss_of(trainer)) is mine
    trainer.train()
    assert trainer.updates > 0


def test_from_python(make: Any) -> None:
    """TorchRL's own loss with its own estimator."""
    other = make(tiny_reinforce(FOUR))
    loss = loss_of(other)
    theirs = ReinforceLoss(loss.actor_network, loss.critic_network)
    trainer = ReinforceTrainer(
        collector=other.collector,
        loss_module=theirs,
        optimizer=Adam(theirs.parameters(), 1e-3),
        total_frames=48,
        config=ReinforceConfig(frames_per_batch=16),
    )
    trainer.train()
    assert (trainer.frames, trainer.updates) == (48, 3)

"""SAC's kin: each put together and trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import algorithms
from support.algorithms import ALL, has
from support.states import assert_same, loss_of, owner

from trainers.build import build
from trainers.config import AlgoConfig, ConfigError, TrainConfig
from trainers.config.off_policy import EntropyConfig
from trainers.hooks import LogLosses, Replay, TargetUpdate
from trainers.networks.acting import NumpyPolicy
from trainers.networks.actors import ActingPolicy
from trainers.networks.batch_renorm import BatchRenorm
from trainers.trainer import Trainer

KIN = [name for name in ALL if issubclass(AlgoConfig.known[name], EntropyConfig) and name != "sac"]
DELAYED = [name for name in KIN if has(name, "policy_delay")]
kin = pytest.mark.parametrize("name", KIN)
delayed = pytest.mark.parametrize("name", DELAYED)


def tiny(name: str, algo: dict[str, Any] | None = None, **given: Any) -> TrainConfig:
    return algorithms.tiny(name, None, algo, **given)


# ---------------------------------------------------------------- the timetable


@kin
def test_what_is_logged(make: Any, name: str) -> None:
    trainer = make(tiny(name))
    trainer.register_hook("post_optim", LogLosses())
    trainer.train()
    each = {"loss/qvalue_0", "loss/qvalue_1"} if name == "tqc" else set()
    assert trainer.metrics.flush().keys() == each | {
        "loss/actor", "loss/qvalue", "loss/alpha", "train/alpha", "train/entropy",
    }  # fmt: skip
    assert (owner(trainer, TargetUpdate) is None) == (name == "crossq")


@kin
def test_the_timetable(make: Any, name: str) -> None:
    trainer = make(tiny(name, {"max_grad_norm": 1.0, "lr_schedule": "linear"}))
    two = name in DELAYED
    clips = ["clip_grad_norm_critic,", "clip_grad_norm_actor"] if two else ["clip_grad_norm"]
    log = ["clip_grad_norm_critic,", "clip_grad_norm_actor(if)"] if two else clips
    anneals = ["anneal_lr_0,", "anneal_lr_1,"] if two else ["anneal_lr_0,"]
    log = log if name == "crossq" else [*log[:-1], log[-1] + ",", "target_update"]
    clips = ["clip_grad_norm_critic(if),", "clip_grad_norm_actor(if)"] if two else clips
    told = str(trainer).replace(" (conditional)", "(if)")
    assert [line.split() for line in told.splitlines()[1:]] == [
        ["setup", "weight_sync"],
        ["post_collect", "replay"],
        ["pre_epoch", "-"],
        ["process_optim_batch", *anneals, "replay"],
        ["post_loss", "-"],
        ["post_backward", *clips],
        ["post_optim", *log],
        ["post_steps", "weight_sync"],
        ["checkpoint", "-"],
        ["shutdown", "-"],
    ]


@delayed
def test_the_policy_learns_every_few_updates(make: Any, name: str) -> None:
    trainer = make(tiny(name, {"policy_delay": 3}))
    actor: Any = loss_of(trainer).actor_network
    taken, before = [], [p.detach().clone() for p in actor.parameters()]

    def look(trainer: Trainer, batch: Any, losses: Any) -> None:
        now = [p.detach().clone() for p in actor.parameters()]
        taken.append(("loss_actor" in losses, not all(map(torch.equal, now, before))))
        before[:] = now

    trainer.register_hook("post_optim", look)
    trainer.train()
    assert taken == [((update + 1) % 3 == 0,) * 2 for update in range(trainer.updates)]


@kin
def test_learning_rates_and_moments(make: Any, name: str) -> None:
    trainer = make(tiny(name, {"lr": 1e-3, "actor_lr": 2e-3, "alpha_lr": 3e-3}))
    groups = [g for phase in trainer.phases for o in phase.optimizers for g in o.param_groups]
    assert {g["name"]: g["lr"] for g in groups} == {"actor": 2e-3, "critic": 1e-3, "alpha": 3e-3}
    beta1 = 0.5 if name == "crossq" else 0.9
    expected = {"actor": (beta1, 0.999), "critic": (beta1, 0.999), "alpha": (0.9, 0.999)}
    assert {g["name"]: g["betas"] for g in groups} == expected
    trained = {id(p) for p in loss_of(trainer).parameters() if p.requires_grad}
    flat = [part for g in groups for p in g["params"] for part in getattr(p, "parts", [p])]
    assert {id(p) for p in flat} == trained


# -------------------------------------------------------------------- the losses

ONE_STEP = {"policy_delay": 1}


def of_torchrl(name: str) -> dict[str, Any]:
    return {"loss_module": "torchrl", **(ONE_STEP if name in DELAYED else {})}


@kin
def test_torchrl_s_own_loss_trains(make: Any, name: str) -> None:
    trainer = make(tiny(name, of_torchrl(name)))
    assert type(loss_of(trainer)).__module__.startswith("torchrl.")
    before = [p.detach().clone() for p in loss_of(trainer).parameters()]
    trainer.train()
    assert not any(map(torch.equal, before, loss_of(trainer).parameters()))


def test_keywords_of_crossq_reach_its_networks(make: Any) -> None:
    algo = {"critic_hidden": [6], "renorm_momentum": 0.3, "renorm_warm_up": 7, "num_critics": 3}
    loss = loss_of(make(tiny("crossq", algo | {"loss_function": "l1"})))
    stacked = loss.qvalue_network_params["module", "net"]
    assert stacked["1", "weight"].shape == (3, 6, 3 + 1)  # after a layer of normalisation
    norms = [m for m in loss.actor_network.modules() if isinstance(m, BatchRenorm)]
    norms += [m for m in loss.qvalue_network.modules() if isinstance(m, BatchRenorm)]
    assert [len(m.weight) for m in norms] == [3, 8, 4, 6]
    assert {(m.momentum, m.warm_up, m.eps) for m in norms} == {(0.3, 7, 1e-3)}
    assert loss.loss_function == "l1"


def test_critics_of_tqc_may_have_widths_of_their_own(make: Any) -> None:
    loss = loss_of(make(tiny("tqc", {"critic_hidden": [6, 5]})))
    stacked = loss.qvalue_network_params["module", "net"]
    shapes = [tuple(stacked[layer, "weight"].shape) for layer in ("0", "2", "4")]
    assert shapes == [(2, 6, 3 + 1), (2, 5, 6), (2, 5, 5)]  # of two critics, five quantiles
    assert loss.actor_network.net[0].weight.shape == (8, 3)


def test_keywords_of_redq_reach_its_loss(make: Any) -> None:
    algo = {"num_critics": 5, "subset_size": 4, "loss_function": "smooth_l1", "tau": 0.1}
    trainer = make(tiny("redq", algo))
    loss = loss_of(trainer)
    assert (loss.num_qvalue_nets, loss.sub_sample_len, loss.loss_function) == (5, 4, "smooth_l1")
    assert owner(trainer, TargetUpdate).tau == 0.1


@delayed
def test_what_a_loss_cannot_do_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"expected 1 with this loss; .*no part of its own"):
        build(tiny(name, {"loss_module": "torchrl", "policy_delay": 2}))
    with pytest.raises(ConfigError, match=r"algo.prioritized.*does not weigh its losses"):
        build(tiny(name, {"prioritized": True, **of_torchrl(name)}))


# ------------------------------------------------------------------------ acting


def test_discrete_sac_acts_in_numpy_and_stores_actions_alone(make: Any) -> None:
    built = build(tiny("discrete_sac"))
    assert isinstance(built.policy, NumpyPolicy)
    built.trainer.train()
    stored = owner(built.trainer, Replay).buffer[:]
    assert set(stored.keys()) == {"observation", "action", "next"}
    assert stored["action"].shape == (40,)
    assert set(stored["action"][10:].tolist()) == {0, 1}


def test_crossq_s_statistics_move_in_updates_only() -> None:
    built = build(tiny("crossq", {"utd_ratio": 0.1}))
    assert isinstance(built.policy, ActingPolicy)
    counts: list[list[int]] = []

    def look(trainer: Trainer, rollout: Any) -> None:
        norms = [m for m in built.policy.modules() if isinstance(m, BatchRenorm)]
        assert all(m.training for m in norms)
        counts.append([int(m.batches) for m in norms])

    built.trainer.register_hook("post_steps", look)
    built.trainer.train()
    assert built.trainer.updates == 3
    assert counts[-1] == [1, 1]  # the third update's
    assert counts[-11] == [0, 0]


# ------------------------------------------------------------------------ resume


def test_a_loaded_crossq_acts_by_the_statistics_it_was_saved_with(tmp_path: Path) -> None:
    first, second = build(tiny("crossq")), build(tiny("crossq", seed=1))
    first.trainer.train()
    first.trainer.save(tmp_path / "c")
    second.trainer.load(tmp_path / "c")
    second.trainer.collector.shutdown()
    left, right = first.policy.state_dict(), second.policy.state_dict()
    assert_same(dict(left), dict(right))
    assert any(key.endswith("running_mean") for key in left)

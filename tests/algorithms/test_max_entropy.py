"""SAC's kin: each put together, trained, stopped and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from helpers import assert_same, env_config, owner, register_spaces, sac_loss, timeless, watched
from kin import DELAYED, KIN, SLICED, env_id, tiny

from trainers import seeding
from trainers.algorithms.max_entropy import SETTINGS
from trainers.build import build
from trainers.config import ConfigError
from trainers.hooks import LogLosses, Replay, TargetUpdate
from trainers.networks.acting import NumpyPolicy
from trainers.networks.actors import ActingPolicy
from trainers.networks.batch_renorm import BatchRenorm
from trainers.saving import checkpoint
from trainers.trainer import Trainer

kin = pytest.mark.parametrize("name", KIN)
delayed = pytest.mark.parametrize("name", DELAYED)


# ---------------------------------------------------------------- the timetable


@kin
def test_the_timetable(make: Any, name: str) -> None:
    trainer = make(tiny(name, {"max_grad_norm": 1.0, "lr_schedule": "linear"}))
    two = name in DELAYED
    clips = ["clip_grad_norm_0,", "clip_grad_norm_1"] if two else ["clip_grad_norm"]
    log = ["clip_grad_norm_0,", "clip_grad_norm_1(if)"] if two else clips
    anneals = ["anneal_lr_0,", "anneal_lr_1,"] if two else ["anneal_lr_0,"]
    log = log if name == "crossq" else [*log[:-1], log[-1] + ",", "target_update"]
    clips = ["clip_grad_norm_0(if),", "clip_grad_norm_1(if)"] if two else clips
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


@kin
def test_everything_learns(make: Any, name: str) -> None:
    trainer = make(tiny(name, {"lr": 0.01}))
    trainer.register_hook("post_optim", LogLosses())
    before = {k: v.clone() for k, v in sac_loss(trainer).state_dict().items()}
    trainer.train()
    assert trainer.updates == (60 if name == "redq" else 30)
    after = sac_loss(trainer).state_dict()
    still = {k for k, v in before.items() if torch.equal(v, after[k])}
    settings = (*SETTINGS, "alpha_init")
    assert {k.rpartition(".")[2] for k in still} <= set(settings)
    line = trainer.metrics.flush()
    assert line.keys() == {
        "loss/actor", "loss/qvalue", "loss/alpha", "train/alpha", "train/entropy",
    }  # fmt: skip
    assert (owner(trainer, TargetUpdate) is None) == (name == "crossq")


@delayed
def test_the_policy_learns_every_few_updates(make: Any, name: str) -> None:
    trainer = make(tiny(name, {"policy_delay": 3}))
    actor: Any = sac_loss(trainer).actor_network
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
    trained = {id(p) for p in sac_loss(trainer).parameters() if p.requires_grad}
    flat = [part for g in groups for p in g["params"] for part in getattr(p, "parts", [p])]
    assert {id(p) for p in flat} == trained


# -------------------------------------------------------------------- the losses

ONE_STEP = {"policy_delay": 1}


def of_torchrl(name: str) -> dict[str, Any]:
    return {"loss_module": "torchrl", **(ONE_STEP if name in DELAYED else {})}


@kin
def test_torchrl_s_own_loss_trains(make: Any, name: str) -> None:
    trainer = make(tiny(name, of_torchrl(name)))
    assert type(sac_loss(trainer)).__module__.startswith("torchrl.")
    before = [p.detach().clone() for p in sac_loss(trainer).parameters()]
    trainer.train()
    assert not any(map(torch.equal, before, sac_loss(trainer).parameters()))


@pytest.mark.parametrize("name", [name for name in KIN if name not in DELAYED])
def test_ours_trains_as_torchrl_s_would(make: Any, name: str) -> None:
    runs = []
    for loss_module in (None, "torchrl"):
        trainer = make(tiny(name, {"loss_module": loss_module, "lr": 0.01}, total_frames=22))
        losses: list[dict[str, float]] = []

        def note(trainer: Trainer, batch: Any, terms: Any, losses: Any = losses) -> None:
            losses.append({k: float(v) for k, v in terms.items() if k.startswith("loss_")})

        trainer.register_hook("post_optim", note)
        trainer.train()
        runs.append(losses)
    assert len(runs[0]) == 12
    for ours, theirs in zip(*runs, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-4)


def test_keywords_of_crossq_reach_its_networks(make: Any) -> None:
    algo = {"critic_hidden": [6], "renorm_momentum": 0.3, "renorm_warm_up": 7, "num_critics": 3}
    loss = sac_loss(make(tiny("crossq", algo | {"loss_function": "l1"})))
    stacked = loss.qvalue_network_params["module", "net"]
    assert stacked["1", "weight"].shape == (3, 6, 3 + 1)  # after a layer of normalisation
    norms = [m for m in loss.actor_network.modules() if isinstance(m, BatchRenorm)]
    norms += [m for m in loss.qvalue_network.modules() if isinstance(m, BatchRenorm)]
    assert [len(m.weight) for m in norms] == [3, 8, 4, 6]
    assert {(m.momentum, m.warm_up, m.eps) for m in norms} == {(0.3, 7, 1e-3)}
    assert loss.loss_function == "l1"


def test_keywords_of_redq_reach_its_loss(make: Any) -> None:
    algo = {"num_critics": 5, "subset_size": 4, "loss_function": "smooth_l1", "tau": 0.1}
    trainer = make(tiny("redq", algo))
    loss = sac_loss(trainer)
    assert (loss.num_qvalue_nets, loss.sub_sample_len, loss.loss_function) == (5, 4, "smooth_l1")
    assert owner(trainer, TargetUpdate).tau == 0.1


@delayed
def test_what_a_loss_cannot_do_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"expected 1 with this loss; .*no part of its own"):
        build(tiny(name, {"loss_module": "torchrl", "policy_delay": 2}))
    with pytest.raises(ConfigError, match=r"algo.prioritized.*does not weigh its losses"):
        build(tiny(name, {"prioritized": True, **of_torchrl(name)}))


@pytest.mark.parametrize(
    ("name", "space", "fits"),
    [
        ("discrete_sac", gym.spaces.Box(-1.0, 1.0, (2,)), "crossq or ppo or redq or sac or tqc"),
        ("redq", gym.spaces.Discrete(3), "discrete_sac or ppo"),
        ("tqc", gym.spaces.Discrete(3), "discrete_sac or ppo"),
        ("crossq", gym.spaces.Discrete(3), "discrete_sac or ppo"),
    ],
)
def test_an_environment_it_cannot_act_in_is_refused(name: str, space: Any, fits: str) -> None:
    elsewhere = register_spaces("Elsewhere", gym.spaces.Box(-1, 1, (2,)), space)
    with pytest.raises(ConfigError) as caught:
        build(tiny(name, env=env_config(elsewhere)))
    assert caught.value.key == "algo"
    for other in fits.split(" or "):
        assert other in str(caught.value).partition("algo=")[2]


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

FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "prioritized, n-step": {"prioritized": True, "n_steps": 3},
    "prioritized, none": {"prioritized": True, "reduction": "none", "max_grad_norm": 1.0},
    "one critic": {"num_critics": 1, "reduction": "sum"},
    "td_lambda": {"value_estimator": "td_lambda", "slice_length": 2},
}
PAIRS = [(name, form) for name in KIN for form in FORMS if name in SLICED or form != "td_lambda"]


@pytest.mark.parametrize(("name", "form"), PAIRS)
@pytest.mark.parametrize(("at", "count"), [("frames", 16), ("updates", 23)])
def test_a_resumed_run_is_the_straight_run(
    name: str, form: str, at: str, count: int, tmp_path: Path
) -> None:
    env = env_config(env_id(name), num_envs=2, max_episode_steps=6)
    algo = {"utd_ratio": 3.0, "lr_schedule": "linear", "buffer_size": 15, "lr": 0.01}
    algo |= {"init_random_frames": 8, **FORMS[form]}
    if name == "redq" and form == "one critic":
        algo["subset_size"] = 1
    config = tiny(name, algo, env, total_frames=20)
    straight, all_lines = watched(config)
    straight.train()

    stopped, first_lines = watched(config)

    def stop(trainer: Trainer, *data: Any) -> None:
        if getattr(trainer, at) == count:
            trainer.stop("test", interrupted=True)

    stopped.register_hook("post_optim" if at == "updates" else "post_steps", stop)
    stopped.register_hook("checkpoint", lambda t: t.save(tmp_path / "c") if t.ending else None)
    stopped.train()
    assert not stopped.finished

    seeding.seed_everything(123)
    resumed, more_lines = watched(config)
    resumed.load(tmp_path / "c")
    resumed.train()
    assert_same(resumed.state_dict(), straight.state_dict(), ("/stopwatch", "/window/seconds"))
    assert timeless(first_lines.lines + more_lines.lines) == timeless(all_lines.lines)


def test_a_loaded_crossq_acts_by_the_statistics_it_was_saved_with(tmp_path: Path) -> None:
    first, second = build(tiny("crossq")), build(tiny("crossq", seed=1))
    first.trainer.train()
    first.trainer.save(tmp_path / "c")
    second.trainer.load(tmp_path / "c")
    second.trainer.collector.shutdown()
    left, right = first.policy.state_dict(), second.policy.state_dict()
    assert_same(dict(left), dict(right))
    assert any(key.endswith("running_mean") for key in left)


@kin
def test_settings_outlive_a_checkpoint(name: str, tmp_path: Path) -> None:
    def made(**algo: float) -> Any:
        built = build(tiny(name, algo))
        built.trainer.collector.shutdown()
        return built

    old = made(lr=1e-3, gamma=0.9, min_alpha=0.01, max_alpha=2.0, target_entropy=-1.5)
    checkpoint.save(tmp_path / "c", old.trainer.phases[0].state_dict())
    new = made(lr=1e-4, gamma=0.5, min_alpha=0.2, max_alpha=3.0, target_entropy=-2.5)
    with new.keeping_settings():
        new.trainer.phases[0].load_state_dict(checkpoint.load(tmp_path / "c"))
    loss = sac_loss(new.trainer)
    values = {n.split(".")[-1]: float(b) for n, b in loss.named_buffers() if b.numel() == 1}
    assert values["gamma"] == 0.5
    assert values["min_log_alpha"] == pytest.approx(torch.tensor(0.2).log().item())
    assert values["max_log_alpha"] == pytest.approx(torch.tensor(3.0).log().item())
    assert loss.target_entropy == -2.5

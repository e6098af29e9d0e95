"""The forms in which algorithms are trained, stopped and resumed; all are, as they are shipped."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from support.algorithms import ALL, ON_POLICY, has, task_of, tiny
from support.environments import env_config

from trainers.config import CollectorConfig, TrainConfig

CARTPOLE = env_config("CartPole-v1", max_episode_steps=9)
FOUR = env_config("Pendulum-v1", num_envs=4, max_episode_steps=6)
ONE = env_config("Pendulum-v1", max_episode_steps=6)
WORKERS = env_config("Pendulum-v1", num_envs=4, backend="async", max_episode_steps=6)
OVERLAPPING: dict[str, Any] = {"collector": CollectorConfig(async_=True)}

_NOT_NORMALIZED = {"normalize_observation": False, "normalize_reward": False}
_SLICED = {"value_estimator": "td_lambda", "slice_length": 2, "lmbda": 0.8}
_WANDERING = {"noise": "ornstein_uhlenbeck", "noise_dt": 0.5}
_OF_CRITICS: dict[str, Any] = {
    "prioritized": {"prioritized": True},
    "prioritized, reduction none": {"prioritized": True, "reduction": "none", "max_grad_norm": 1.0},
    "prioritized, n-step": {"prioritized": True, "n_steps": 3},
    "sum": {"reduction": "sum"},
    "td_lambda": _SLICED,
    "one critic": {"num_critics": 1},
}


@dataclass(frozen=True)
class Form:
    """What is not as shipped."""

    algo: dict[str, Any] = field(default_factory=dict)
    env: Any = None
    given: dict[str, Any] = field(default_factory=dict)


_FORMS: dict[str, dict[str, Form]] = {
    "a2c": {
        "four environments": Form({"normalize_advantage": True}, FOUR),
        "discrete": Form({"entropy_coeff": 0.01}, CARTPOLE),
        "adam": Form({"optimizer": "adam"}),
        "not normalised": Form(_NOT_NORMALIZED),
        "shared trunk": Form({"shared_trunk": True}, FOUR),
        "functional": Form({"functional": True}, FOUR),
        "functional, shared, discrete": Form({"functional": True, "shared_trunk": True}, CARTPOLE),
        "separate losses": Form(
            {"functional": True, "shared_trunk": True, "separate_losses": True}, FOUR
        ),
        "predicted deviation": Form({"predict_std": True}),
        "mean in bounds": Form({"tanh_loc": True}),
        "v-trace": Form({"value_estimator": "vtrace"}, FOUR, OVERLAPPING),
    },
    "c51": {"duelling": Form({"duelling": True})},
    "ddpg": {
        "wandering, overlapping": Form(_WANDERING, None, OVERLAPPING),
        "torchrl's": Form({"loss_module": "torchrl"}),
    },
    "dqn": {
        "duelling": Form({"duelling": True}),
        "no target": Form({"double": False, "delay_value": False}),
        "hard": Form({"target_update": "hard", "target_update_interval": 5}),
    },
    "ppo": {
        "four environments": Form({}, FOUR),
        "discrete": Form({}, CARTPOLE),
        "kl": Form({"loss": "kl"}),
        "plain": Form({"loss": "plain"}),
        "not normalised": Form(_NOT_NORMALIZED),
        "shared trunk": Form({"shared_trunk": True}, FOUR),
        "functional": Form({"functional": True}, FOUR),
        "functional, shared, discrete, kl": Form(
            {"functional": True, "shared_trunk": True, "loss": "kl"}, CARTPOLE
        ),
        "predicted deviation": Form({"predict_std": True, "tanh_loc": True}),
        "advantages once": Form({"recompute_advantage": False, "clip_value": True}, FOUR),
        "early end": Form({"target_kl": 1e-4, "clip_schedule": "linear"}),
        "bounds apart": Form({"clip_epsilon_high": 0.3, "max_importance_ratio": 1.01}),
        "older actor": Form({"delay_actor": True, "functional": True, "tau": 0.5}, FOUR),
        "v-trace": Form({"value_estimator": "vtrace"}, FOUR, OVERLAPPING),
    },
    "reinforce": {
        "four environments": Form({"normalize_advantage": True, "value_estimator": "gae"}, FOUR),
        "discrete": Form({}, CARTPOLE),
        "shared trunk": Form({"shared_trunk": True}, FOUR),
        "separate": Form({"functional": True, "shared_trunk": True, "separate_losses": True}, FOUR),
        "v-trace": Form({"value_estimator": "vtrace"}, FOUR, OVERLAPPING),
        "no baseline": Form({"baseline": False}, FOUR),
        "no baseline, discrete": Form({"baseline": False, "normalize_advantage": True}, CARTPOLE),
        "no baseline, as it is": Form(
            {"baseline": False, "predict_std": True, **_NOT_NORMALIZED}, FOUR
        ),
    },
    "sac": {
        "one environment": Form({}, ONE),
        "four environments": Form({}, FOUR),
        "four workers": Form({}, WORKERS),
        "the first version": Form({"value_network": True}),
        "the first, prioritized": Form(
            {"value_network": True, "prioritized": True, "n_steps": 2}
        ),
        "the first, td_lambda": Form({"value_network": True, **_SLICED}),
        "td1": Form({"value_estimator": "td1", "slice_length": 4}),
        "noise": Form({"exploration_noise": 0.1}),
    },
    "td3": {
        "wandering, overlapping": Form(_WANDERING, None, OVERLAPPING),
        "delayed by three": Form({"policy_delay": 3, "target_update_interval": 4}),
        "torchrl's": Form({"loss_module": "torchrl"}),
    },
}  # fmt: skip


def _forms_of(name: str) -> dict[str, Form]:
    """All of an algorithm: its own, and those of whoever has the keys."""
    shared = {} if name in ON_POLICY else _OF_CRITICS
    common = {
        form: Form(keys) for form, keys in shared.items() if all(has(name, key) for key in keys)
    }
    return {"as shipped": Form()} | common | _FORMS.get(name, {})


FORMS = {(name, form): each for name in ALL for form, each in _forms_of(name).items()}


def config_of(name: str, form: str) -> TrainConfig:
    """A run with learning rates that show; off-policy its buffer goes round."""
    each = FORMS[name, form]
    algo, env, given = each.algo, each.env, each.given
    if name in ON_POLICY:
        env = env or env_config(task_of(name), max_episode_steps=25)
        return tiny(name, env, {"lr": 0.01, **algo}, 96, **given)
    # Three updates a frame: most of them lie between two others that are due.
    settings = {"utd_ratio": 3.0, "lr_schedule": "linear", "buffer_size": 12, "lr": 0.01}
    settings |= {"init_random_frames": 8, **algo}
    if settings.get("num_critics") == 1 and has(name, "subset_size"):
        settings["subset_size"] = 1
    env = env or env_config(task_of(name), num_envs=2, max_episode_steps=6)
    return tiny(name, env, settings, 16, **given)


# How a loss may be configured that TorchRL's own is, too.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "c51": [
        {"duelling": True},
        {"prioritized": True, "n_steps": 3},
        {"reduction": "sum"},
        {"delay_value": False},
    ],
    "ddpg": [
        {"loss_function": "smooth_l1", "gamma": 0.5},
        {"delay_qvalue": False},
        {"delay_actor": False},
        {"n_steps": 3, "prioritized": True},
        {"reduction": "sum"},
    ],
    "dqn": [
        {"duelling": True},
        {"prioritized": True, "reduction": "none"},
        {"prioritized": True, "n_steps": 3, "duelling": True},
        {"target_update": "hard", "target_update_interval": 3},
        {"reduction": "sum"},
        {"double": False},
        {"double": False, "delay_value": False},
        {"value_estimator": "td1", "slice_length": 4},
        {"double": False, **_SLICED},
    ],
    "sac": [
        {"loss_function": "smooth_l1", "gamma": 0.5},
        {"num_critics": 3, "min_alpha": 0.9, "max_alpha": 1.1},
        {"fixed_alpha": True, "alpha_init": 0.2},
        {"target_entropy": -2.0},
        {"delay_qvalue": False},
        {"separate_losses": True},
        {"skip_done_states": True},
        {"prioritized": True},
        {"value_network": True, "prioritized": True},
    ],
}
VARIANTS["td3"] = VARIANTS["ddpg"]
# CrossQ's and REDQ's are other losses than theirs, REINFORCE's is theirs by another name.
NO_TWINS = {"crossq", "redq", "reinforce"}
TWINS = [
    (name, variant)
    for name in ALL
    if name not in NO_TWINS
    for variant in ({}, *VARIANTS.get(name, []))
]

"""Every algorithm of the registry, as small as a test wants it.

An algorithm that is added to the registry is configured here with no line of its own, by whichever
of the keys below it has, and so the tests over all of them train it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torchrl.data import Bounded, Categorical

from support.environments import env_config
from trainers.build import ALGORITHMS
from trainers.config import (
    AlgoConfig,
    CheckpointConfig,
    EnvConfig,
    EvalConfig,
    LogConfig,
    NetworkConfig,
    ReportConfig,
    TrainConfig,
)

ALL = sorted(ALGORITHMS)
ON_POLICY = [name for name in ALL if AlgoConfig.known[name].on_policy]
OFF_POLICY = [name for name in ALL if name not in ON_POLICY]

# An algorithm's own task is the first one that it can act in.
TASKS = {"Pendulum-v1": Bounded(-1.0, 1.0, (1,)), "CartPole-v1": Categorical(2)}

_OFF_POLICY = {"batch_size": 8, "buffer_size": 1_000, "init_random_frames": 10}
_ON_POLICY = {"frames_per_batch": 16, "minibatch_size": 8, "num_epochs": 2}
# What makes one smaller still, or lets something happen in so short a run.
_OWN: dict[str, dict[str, Any]] = {
    "c51": {"num_atoms": 7, "v_min": 0.0, "v_max": 100.0},
    "crossq": {"renorm_warm_up": 10},
    "redq": {"num_critics": 3, "utd_ratio": 2.0, "policy_delay": 4},
    "tqc": {"num_critics": 2, "num_quantiles": 5, "top_quantiles_to_drop": 1},
}


def has(name: str, key: str) -> bool:
    """Whether an algorithm is configured by this key."""
    return key in AlgoConfig.known[name].__dataclass_fields__


def task_of(name: str) -> str:
    """The id of an environment that an algorithm can act in."""
    for env_id, spec in TASKS.items():
        if ALGORITHMS[name].action_space.accepts(spec):
            return env_id
    raise ValueError(f"{name} can act in none of {', '.join(TASKS)}: add a task")


def tiny(
    name: str,
    env: EnvConfig | None = None,
    algo: dict[str, Any] | None = None,
    total_frames: int | None = None,
    **given: Any,
) -> TrainConfig:
    """With networks of eight units: trains for a fraction of a second.

    Off-policy 40 frames, of which 10 are the warm-up; on-policy three rollouts of 16.
    """
    kind = AlgoConfig.known[name]
    small = _ON_POLICY if kind.on_policy else _OFF_POLICY
    settings = {key: value for key, value in small.items() if has(name, key)}
    sections: dict[str, Any] = {
        "network": NetworkConfig(hidden=[8], activation="tanh" if kind.on_policy else "relu"),
        "log": LogConfig(interval=10),
        "eval": EvalConfig(interval=0, episodes=1),
        "checkpoint": CheckpointConfig(interval=0),
        "report": ReportConfig(interval_s=0),
        "progress": False,
        "threads": 1,
        "device": "cpu",
    }
    return TrainConfig(
        algo=kind(**(settings | _OWN.get(name, {}) | (algo or {}))),
        env=env or env_config(task_of(name)),
        total_frames=total_frames or (48 if kind.on_policy else 40),
        **(sections | given),
    )


tiny_a2c = partial(tiny, "a2c")
tiny_c51 = partial(tiny, "c51")
tiny_dqn = partial(tiny, "dqn")
tiny_ppo = partial(tiny, "ppo")
tiny_reinforce = partial(tiny, "reinforce")
tiny_sac = partial(tiny, "sac")

# ------------------------------------------------------------- on the command line

_SHORT = (
    "env.max_episode_steps=25",
    "network.hidden=[16,16]",
    "total_frames=160",
    "log.interval=50",
    "eval.interval=60",
    "eval.episodes=2",
    "checkpoint.interval=64",
    "report.interval_s=0",
    "threads=1",
    "device=cpu",
)
_OFF_POLICY_RUN = {
    "batch_size": 16,
    "buffer_size": 1_000,
    "init_random_frames": 40,
    "exploration_fraction": 0.8,
}
_ON_POLICY_RUN = {"frames_per_batch": 32, "minibatch_size": 8, "num_epochs": 3, "lr": 1e-2}
_OWN_RUN: dict[str, dict[str, Any]] = {
    "c51": {"num_atoms": 11, "v_min": 0, "v_max": 100},
    "crossq": {"renorm_warm_up": 30},
    "redq": {"utd_ratio": 3, "policy_delay": 2, "num_critics": 3},
    "tqc": {"num_critics": 2},
}


def command(name: str) -> tuple[str, ...]:
    """What `scripts/train.py` is given for a run of 160 frames; what is added to it counts."""
    small = _ON_POLICY_RUN if name in ON_POLICY else _OFF_POLICY_RUN
    settings = {key: value for key, value in small.items() if has(name, key)}
    task = {"Pendulum-v1": ("env=Pendulum",), "CartPole-v1": ("env=gym", "env.id=CartPole-v1")}
    keys = (f"algo.{key}={value}" for key, value in (settings | _OWN_RUN.get(name, {})).items())
    return (f"algo={name}", *task[task_of(name)], *_SHORT, *keys)

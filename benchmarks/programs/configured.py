"""The settings of the benchmark as a configuration of this project."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

from torchrl.data import Bounded, Categorical, TensorSpec

from trainers.build import ALGORITHMS
from trainers.config import (
    AlgoConfig,
    CheckpointConfig,
    DDPGConfig,
    DQNConfig,
    EnvConfig,
    EvalConfig,
    NetworkConfig,
    PPOConfig,
    ReportConfig,
    SACConfig,
    TD3Config,
    TrainConfig,
)

# Where an algorithm is measured alone: the first one it can act in.
_TASKS: dict[str, TensorSpec] = {
    "HalfCheetah-v5": Bounded(-1.0, 1.0, (6,)),
    "CartPole-v1": Categorical(2),
}


def configured(settings: SimpleNamespace, backend: str = "sync") -> TrainConfig:
    """What `scripts/train.py` would be told, without evaluations, checkpoints and reports."""
    env_id = settings.env_id or _task(settings.algo)
    algo = _MAKERS.get(settings.algo, _as_shipped)(settings)
    return TrainConfig(
        algo=algo,
        # Not staggered: the others do not cut their first episodes.
        env=EnvConfig.from_dict(
            {
                "id": env_id,
                "name": env_id,
                "num_envs": settings.num_envs,
                "backend": backend,
                "stagger": False,
            }
        ),
        network=NetworkConfig(
            hidden=settings.hidden, activation="tanh" if algo.on_policy else "relu"
        ),
        eval=EvalConfig(interval=0, episodes=1),  # only the one after the end
        checkpoint=CheckpointConfig(interval=0, best=False),
        report=ReportConfig(interval_s=0),
        total_frames=settings.total_frames,
        seed=settings.seed,
        device=settings.device,
        matmul_precision=settings.matmul_precision,
        threads=int(os.environ["OMP_NUM_THREADS"]),  # as many as the others have
        progress=False,
    )


def _off_policy(settings: SimpleNamespace) -> dict[str, Any]:
    """What those that learn from a buffer have in common."""
    return {
        "lr": settings.lr,
        "gamma": settings.gamma,
        "batch_size": settings.batch_size,
        "tau": settings.tau,
        "buffer_size": settings.buffer_size,
        # On a GPU batches are drawn there, in the captured part.
        "storage": "memory" if settings.device == "cpu" else "device",
        "init_random_frames": settings.warm_up,
        "utd_ratio": settings.updates_per_frame,
        "loss_function": "l2",
        "max_grad_norm": None,  # the others have no such option
    }


def _sac(settings: SimpleNamespace) -> AlgoConfig:
    return SACConfig(num_critics=2, alpha_init=1.0, target_entropy="auto", **_off_policy(settings))


def _td3(settings: SimpleNamespace) -> AlgoConfig:
    return TD3Config(
        num_critics=2,
        policy_delay=settings.policy_delay,
        policy_noise=settings.policy_noise,
        noise_clip=settings.noise_clip,
        noise="gaussian",
        exploration_noise=settings.exploration_noise,
        **_off_policy(settings),
    )


def _ddpg(settings: SimpleNamespace) -> AlgoConfig:
    return DDPGConfig(
        noise="gaussian", exploration_noise=settings.exploration_noise, **_off_policy(settings)
    )


def _dqn(settings: SimpleNamespace) -> AlgoConfig:
    updates = settings.frames_per_target_update * settings.updates_per_frame
    own = {
        "frames_per_batch": settings.frames_per_batch,
        "epsilon_start": settings.epsilon_start,
        "epsilon_end": settings.epsilon_end,
        "exploration_fraction": settings.exploration_fraction,
        "double": False,  # SB3 has the paper's
        "target_update": "hard",
        "target_update_interval": round(updates),
        "loss_function": "smooth_l1",
        "max_grad_norm": settings.max_grad_norm,
    }
    return DQNConfig(**_off_policy(settings) | own)


def _ppo(settings: SimpleNamespace) -> AlgoConfig:
    return PPOConfig(
        lr=settings.lr,
        lr_schedule="constant",
        gamma=settings.gamma,
        gae_lambda=settings.gae_lambda,
        recompute_advantage=False,  # the others do it once a rollout
        normalize_advantage=True,
        frames_per_batch=settings.frames_per_batch,
        num_epochs=settings.num_epochs,
        minibatch_size=settings.batch_size,
        clip_epsilon=settings.clip_epsilon,
        clip_value=False,
        critic_coeff=settings.critic_coeff,
        loss_critic_type="l2",
        entropy_coeff=settings.entropy_coeff,
        max_grad_norm=settings.max_grad_norm,
        normalize_observation=False,
        normalize_reward=False,
        log_std_init=0.0,
    )


def _as_shipped(settings: SimpleNamespace) -> AlgoConfig:
    """An algorithm's own defaults, but for the warm-up and what CartPole's returns ask of C51."""
    kind = AlgoConfig.known[settings.algo]
    given = {"init_random_frames": settings.warm_up, "v_min": 0.0, "v_max": 100.0}
    return kind(**{key: given[key] for key in given if key in kind.__dataclass_fields__})


def _task(algo: str) -> str:
    space = ALGORITHMS[algo].action_space
    return next(env_id for env_id, spec in _TASKS.items() if space.accepts(spec))


_MAKERS = {"sac": _sac, "td3": _td3, "ddpg": _ddpg, "dqn": _dqn, "ppo": _ppo}

"""Proximal policy optimization: its keys, their types and ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from trainers.config.algo import AlgoConfig
from trainers.config.errors import ConfigError
from trainers.config.schema import number


@dataclass(frozen=True)
class PPOConfig(AlgoConfig):
    """Keys of `algo=ppo`; `configs/algo/ppo.yaml` says what each is for."""

    on_policy: ClassVar[bool] = True

    name: Literal["ppo"] = "ppo"
    loss: Literal["clip", "kl", "plain"] = "clip"

    gamma: float = number(0.99, ge=0, le=1)
    gae_lambda: float = number(0.95, ge=0, le=1)
    value_estimator: Literal["gae", "td_lambda", "td1", "td0"] = "gae"
    recompute_advantage: bool = True
    normalize_advantage: bool = True

    lr: float = number(3e-4, gt=0)
    actor_lr: float | None = number(None, gt=0)
    critic_lr: float | None = number(None, gt=0)
    lr_schedule: Literal["constant", "linear"] = "linear"
    max_grad_norm: float | None = number(0.5, gt=0)

    frames_per_batch: int = number(2_048, ge=1)
    num_epochs: int = number(10, ge=1)
    minibatch_size: int = number(64, ge=1)
    target_kl: float | None = number(None, gt=0)

    clip_epsilon: float = number(0.2, gt=0, lt=1)
    clip_schedule: Literal["constant", "linear"] = "constant"
    clip_value: bool | float = number(False, gt=0)
    critic_coeff: float = number(0.5, gt=0)
    loss_critic_type: Literal["l2", "l1", "smooth_l1"] = "l2"
    entropy_bonus: bool = True
    entropy_coeff: float = number(0.0, ge=0)
    samples_mc_entropy: int = number(1, ge=1)

    beta: float = number(1.0, gt=0)
    dtarg: float = number(0.01, gt=0)
    increment: float = number(2.0, ge=1)
    decrement: float = number(0.5, gt=0, le=1)
    samples_mc_kl: int = number(1, ge=1)

    separate_losses: bool = False
    functional: bool = False
    reduction: Literal["mean", "sum"] = "mean"

    normalize_observation: bool = True
    normalize_reward: bool = True
    shared_trunk: bool = False
    predict_std: bool = False
    log_std_init: float = number(0.0, ge=-20, le=2)

    loss_module: str | None = None

    def has_schedule(self) -> bool:
        """Whether anything moves over the run's horizon, `total_frames`."""
        return "linear" in (self.lr_schedule, self.clip_schedule)

    def check(self) -> None:
        """A minibatch fits into a rollout; what only one loss has is not asked of another."""
        if self.minibatch_size > self.frames_per_batch:
            allowed = f"at most algo.frames_per_batch={self.frames_per_batch}"
            raise ConfigError("algo.minibatch_size", self.minibatch_size, allowed)
        if self.loss != "clip":
            if self.clip_value is True:
                allowed = "false or a number: only algo.loss=clip has a clip_epsilon to use"
                raise ConfigError("algo.clip_value", self.clip_value, allowed)
            if self.clip_schedule != "constant":
                allowed = "constant: only algo.loss=clip clips"
                raise ConfigError("algo.clip_schedule", self.clip_schedule, allowed)

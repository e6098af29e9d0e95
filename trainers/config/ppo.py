"""Proximal policy optimization: its keys, their types and ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainers.config.errors import ConfigError
from trainers.config.on_policy import OnPolicyConfig
from trainers.config.schema import number


@dataclass(frozen=True)
class PPOConfig(OnPolicyConfig):
    """Keys of `algo=ppo`; `configs/algo/ppo.yaml` says what each is for."""

    name: Literal["ppo"] = "ppo"
    loss: Literal["clip", "kl", "plain"] = "clip"

    recompute_advantage: bool = True
    normalize_advantage: bool = True

    num_epochs: int = number(10, ge=1)
    minibatch_size: int = number(64, ge=1)
    target_kl: float | None = number(None, gt=0)

    clip_epsilon: float = number(0.2, gt=0, lt=1)
    clip_value: bool | float = number(False, gt=0)
    clip_schedule: Literal["constant", "linear"] = "constant"

    critic_coeff: float = number(0.5, gt=0)
    entropy_bonus: bool = True
    entropy_coeff: float = number(0.0, ge=0)
    samples_mc_entropy: int = number(1, ge=1)

    beta: float = number(1.0, gt=0)
    dtarg: float = number(0.01, gt=0)
    increment: float = number(2.0, ge=1)
    decrement: float = number(0.5, gt=0, le=1)
    samples_mc_kl: int = number(1, ge=1)

    def has_schedule(self) -> bool:
        """Whether anything moves over the run's horizon, `total_frames`."""
        return super().has_schedule() or self.clip_schedule != "constant"

    def check(self) -> None:
        """A minibatch fits into a rollout; what only one loss has is not asked of another."""
        super().check()
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

"""Proximal policy optimization: its keys, their types and ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainers.config.errors import ConfigError
from trainers.config.on_policy import OnPolicyConfig
from trainers.config.schema import number

# What only one of the losses has.
_OF_A_LOSS = {
    "clip": ("clip_epsilon", "clip_epsilon_high", "clip_schedule"),
    "kl": ("beta", "dtarg", "increment", "decrement", "samples_mc_kl"),
}


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
    clip_epsilon_high: float | None = number(None, gt=0)
    clip_value: bool | float = number(False, gt=0)
    clip_schedule: Literal["constant", "linear"] = "constant"

    max_importance_ratio: float | None = number(None, gt=0)
    delay_actor: bool = False
    tau: float = number(0.111, gt=0, le=1)

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
        for loss, names in _OF_A_LOSS.items():
            if loss != self.loss:
                self.refuse_unused(names, f"with algo.loss={self.loss}: only {loss} has it")
        if self.clip_value is True and self.loss != "clip":
            allowed = "false or a number: only algo.loss=clip has a clip_epsilon to use"
            raise ConfigError("algo.clip_value", self.clip_value, allowed)
        if self.clip_value is True and self.clip_epsilon_high is not None:
            allowed = "false or a number: with algo.clip_epsilon_high there are two to use"
            raise ConfigError("algo.clip_value", self.clip_value, allowed)
        self._check_delay()

    def _check_delay(self) -> None:
        """An older actor is kept apart from the present one, trunk and all."""
        if not self.delay_actor:
            self.refuse_unused(["tau"], "with algo.delay_actor=false: there is no older actor")
        elif not self.functional:
            allowed = "false without algo.functional=true: only such a loss keeps an older actor"
            raise ConfigError("algo.delay_actor", True, allowed)
        elif self.shared_trunk:
            allowed = "false with algo.shared_trunk=true: values would be read off the older trunk"
            raise ConfigError("algo.delay_actor", True, allowed)

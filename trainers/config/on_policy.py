"""Keys of the algorithms that learn from what their present policy did, and their ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from trainers.config.algo import AlgoConfig
from trainers.config.errors import ConfigError
from trainers.config.schema import number

# What only the distribution of continuous actions has.
_OF_A_CONTINUUM = ("tanh_loc", "predict_std", "log_std_init")


@dataclass(frozen=True)
class OnPolicyConfig(AlgoConfig):
    """What all of them have; `configs/algo/` says what each key is for."""

    on_policy: ClassVar[bool] = True

    gamma: float = number(0.99, ge=0, le=1)
    gae_lambda: float = number(0.95, ge=0, le=1)
    value_estimator: Literal["gae", "td_lambda", "td1", "td0", "vtrace"] = "gae"

    lr: float = number(3e-4, gt=0)
    actor_lr: float | None = number(None, gt=0)
    critic_lr: float | None = number(None, gt=0)
    lr_schedule: Literal["constant", "linear"] = "linear"
    max_grad_norm: float | None = number(0.5, gt=0)

    frames_per_batch: int = number(2_048, ge=1)

    loss_critic_type: Literal["l2", "l1", "smooth_l1"] = "l2"
    separate_losses: bool = False
    functional: bool = False
    reduction: Literal["mean", "sum"] = "mean"

    normalize_observation: bool = True
    normalize_reward: bool = True
    shared_trunk: bool = False
    tanh_loc: bool = False
    predict_std: bool = False
    log_std_init: float = number(0.0, ge=-20, le=2)

    loss_module: str | None = None

    def check_async(self) -> None:
        """V-trace weights what an older policy did by what the present one would do."""
        super().check_async()
        if self.value_estimator != "vtrace":
            allowed = f"false with algo.value_estimator={self.value_estimator}"
            hint = "off-policy data needs algo.value_estimator=vtrace"
            raise ConfigError("collector.async", True, allowed, hint)

    def check_actions(self, choices: int | None) -> None:
        """A choice has neither mean nor standard deviation."""
        super().check_actions(choices)
        if choices is not None:
            self.refuse_unused(_OF_A_CONTINUUM, "with discrete actions")


@dataclass(frozen=True)
class OneUpdateConfig(OnPolicyConfig):
    """Of those that make one update on each rollout."""

    normalize_advantage: bool = False

    def check(self) -> None:
        """TorchRL's losses of these algorithms would pass over what they cannot do."""
        super().check()
        if self.separate_losses and not self.functional:
            raise ConfigError("algo.separate_losses", True, "false without algo.functional=true")

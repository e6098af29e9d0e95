"""REINFORCE: its keys, their types and ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainers.config.errors import ConfigError
from trainers.config.on_policy import OneUpdateConfig
from trainers.config.schema import number

# What only a critic has a use for.
_OF_A_CRITIC = (
    *("value_estimator", "gae_lambda", "critic_lr", "loss_critic_type"),
    *("separate_losses", "functional", "shared_trunk"),
)


@dataclass(frozen=True)
class ReinforceConfig(OneUpdateConfig):
    """Keys of `algo=reinforce`; `configs/algo/reinforce.yaml` says what each is for."""

    name: Literal["reinforce"] = "reinforce"
    baseline: bool = True

    value_estimator: Literal["gae", "td_lambda", "td1", "td0", "vtrace"] = "td1"
    lr: float = number(1e-3, gt=0)

    def check(self) -> None:
        """Without a baseline there is no critic, and only some estimators have a lambda."""
        super().check()
        if self.baseline:
            # Here alone: presets of the other algorithms have one, whichever estimator is chosen.
            if self.value_estimator not in ("gae", "td_lambda"):
                why = f"with algo.value_estimator={self.value_estimator}"
                self.refuse_unused(["gae_lambda"], why)
            return
        self.refuse_unused(_OF_A_CRITIC, "with algo.baseline=false, which has no critic")
        if self.loss_module == "torchrl":
            hint = "torchrl's ReinforceLoss cannot be made without a critic"
            allowed = "null or a loss from a plugin with algo.baseline=false"
            raise ConfigError("algo.loss_module", "torchrl", allowed, hint)

    def check_async(self) -> None:
        """Without a baseline there are no values for V-trace."""
        if not self.baseline:
            hint = "off-policy data needs a baseline and algo.value_estimator=vtrace"
            raise ConfigError("collector.async", True, "false with algo.baseline=false", hint)
        super().check_async()

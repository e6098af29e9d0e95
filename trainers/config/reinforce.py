"""REINFORCE: its keys, their types and ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from trainers.config.errors import ConfigError, show
from trainers.config.on_policy import OneUpdateConfig
from trainers.config.schema import number

# What only a critic has a use for, and how it says so.
_OF_A_CRITIC: dict[str, Any] = {
    "value_estimator": "td1",
    "critic_lr": None,
    "loss_critic_type": "l2",
    "separate_losses": False,
    "functional": False,
    "shared_trunk": False,
}


@dataclass(frozen=True)
class ReinforceConfig(OneUpdateConfig):
    """Keys of `algo=reinforce`; `configs/algo/reinforce.yaml` says what each is for."""

    name: Literal["reinforce"] = "reinforce"
    baseline: bool = True

    value_estimator: Literal["gae", "td_lambda", "td1", "td0"] = "td1"
    lr: float = number(1e-3, gt=0)

    def check(self) -> None:
        """Without a baseline there is no critic."""
        super().check()
        if self.baseline:
            return
        for name, unused in _OF_A_CRITIC.items():
            if (value := getattr(self, name)) != unused:
                allowed = f"{show(unused)} with algo.baseline=false, which has no critic"
                raise ConfigError(f"algo.{name}", value, allowed)
        if self.loss_module == "torchrl":
            hint = "torchrl's ReinforceLoss cannot be made without a critic"
            allowed = "null or a loss from a plugin with algo.baseline=false"
            raise ConfigError("algo.loss_module", "torchrl", allowed, hint)

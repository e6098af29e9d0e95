"""Soft actor-critic for discrete actions: its keys, their types and ranges."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from trainers.config.errors import ConfigError
from trainers.config.off_policy import EntropyConfig, SlicesConfig, TargetsConfig
from trainers.config.schema import number


@dataclass(frozen=True)
class DiscreteSACConfig(EntropyConfig, TargetsConfig, SlicesConfig):
    """Keys of `algo=discrete_sac`; `configs/algo/discrete_sac.yaml` says what each is for."""

    name: Literal["discrete_sac"] = "discrete_sac"

    num_critics: int = number(2, ge=1)
    loss_function: Literal["l2", "l1", "smooth_l1"] = "l2"
    delay_qvalue: bool = True
    skip_done_states: bool = False
    target_entropy_weight: float = number(0.98, ge=0, le=1)

    def check_actions(self, choices: int | None) -> None:
        """The entropy that alpha aims at is one that a policy can have."""
        super().check_actions(choices)
        if choices is None or self.target_entropy == "auto":
            return
        most = math.log(choices)
        if not 0.0 <= self.target_entropy <= most:
            allowed = f"auto or a number from 0 to log({choices}) = {most:.6g}"
            hint = f"it is the entropy of a policy of {choices} actions"
            raise ConfigError("algo.target_entropy", self.target_entropy, allowed, hint)

"""Randomized ensembled double Q-learning: its keys, their types and ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainers.config.errors import ConfigError
from trainers.config.off_policy import EntropyConfig, SlicesConfig, TargetsConfig
from trainers.config.schema import number


@dataclass(frozen=True)
class REDQConfig(EntropyConfig, TargetsConfig, SlicesConfig):
    """Keys of `algo=redq`; `configs/algo/redq.yaml` says what each is for."""

    name: Literal["redq"] = "redq"
    utd_ratio: float = number(20.0, gt=0)

    policy_delay: int = number(20, ge=1)
    num_critics: int = number(10, ge=1)
    subset_size: int = number(2, ge=1)
    loss_function: Literal["l2", "l1", "smooth_l1"] = "l2"
    delay_qvalue: bool = True
    critic: str | None = None

    def check(self) -> None:
        """A subset has no more members than the whole."""
        super().check()
        if self.subset_size > self.num_critics:
            allowed = f"at most algo.num_critics={self.num_critics}"
            raise ConfigError("algo.subset_size", self.subset_size, allowed)

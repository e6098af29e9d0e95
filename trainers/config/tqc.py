"""Truncated quantile critics: their keys, types and ranges."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from trainers.config.errors import ConfigError
from trainers.config.off_policy import EntropyConfig, TargetsConfig
from trainers.config.schema import number


@dataclass(frozen=True)
class TQCConfig(EntropyConfig, TargetsConfig):
    """Keys of `algo=tqc`; `configs/algo/tqc.yaml` says what each is for."""

    name: Literal["tqc"] = "tqc"

    num_critics: int = number(5, ge=1)
    critic_hidden: list[int] | None = field(default=None, metadata={"ge": 1, "min_items": 1})
    num_quantiles: int = number(25, ge=1)
    top_quantiles_to_drop: int = number(2, ge=0)
    delay_qvalue: bool = True
    skip_done_states: bool = False

    def check(self) -> None:
        """Something is left of a target."""
        super().check()
        if self.top_quantiles_to_drop >= self.num_quantiles:
            allowed = f"below algo.num_quantiles={self.num_quantiles}"
            raise ConfigError("algo.top_quantiles_to_drop", self.top_quantiles_to_drop, allowed)

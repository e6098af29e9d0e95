"""Soft actor-critic: its keys, their types and ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainers.config.errors import ConfigError
from trainers.config.off_policy import MOST_NOISE, EntropyConfig, SlicesConfig, TargetsConfig
from trainers.config.schema import number


@dataclass(frozen=True)
class SACConfig(EntropyConfig, TargetsConfig, SlicesConfig):
    """Keys of `algo=sac`; `configs/algo/sac.yaml` says what each is for."""

    name: Literal["sac"] = "sac"

    exploration_noise: float = number(0.0, ge=0, le=MOST_NOISE)
    value_network: bool = False
    num_critics: int = number(2, ge=1)
    loss_function: Literal["l2", "l1", "smooth_l1"] = "l2"
    delay_actor: bool = False
    delay_qvalue: bool = True
    skip_done_states: bool = False
    critic: str | None = None

    def check(self) -> None:
        """The first version's critics share a batch; what only it has is not asked of another."""
        super().check()
        # TorchRL trains each critic of the first version on a part of the batch of its own.
        parts = self.num_critics * (self.slice_length or 1)
        if self.value_network and self.batch_size % parts:
            slices = " * algo.slice_length" if self.slice_length else ""
            allowed = f"a multiple of algo.num_critics{slices}={parts} with algo.value_network"
            raise ConfigError("algo.batch_size", self.batch_size, allowed)
        if self.delay_actor and not self.value_network:
            allowed = "false without algo.value_network=true: only the first version of SAC asks it"
            raise ConfigError("algo.delay_actor", True, allowed)
        if self.skip_done_states and self.value_network:
            allowed = "false with algo.value_network=true, which has states valued by a network"
            raise ConfigError("algo.skip_done_states", True, allowed)

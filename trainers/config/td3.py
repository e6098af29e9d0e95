"""Twin delayed deep deterministic policy gradient: its keys, their types and ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainers.config.ddpg import DDPGConfig
from trainers.config.off_policy import MOST_NOISE
from trainers.config.schema import number


@dataclass(frozen=True)
class TD3Config(DDPGConfig):
    """Keys of `algo=td3`: DDPG's and some more; `configs/algo/td3.yaml` says what each is for."""

    name: Literal["td3"] = "td3"  # type: ignore[assignment]  # another algorithm

    noise: Literal["gaussian", "ornstein_uhlenbeck"] = "gaussian"
    exploration_noise: float = number(0.1, ge=0, le=MOST_NOISE)

    policy_delay: int = number(2, ge=1)
    policy_noise: float = number(0.2, ge=0, le=MOST_NOISE)
    noise_clip: float = number(0.5, ge=0)
    num_critics: int = number(2, ge=1)
    target_update_interval: int | None = number(None, ge=1)  # type: ignore[assignment]  # null, too

    @property
    def targets_interval(self) -> int:
        """The targets move whenever the actor does, unless told otherwise."""
        return self.target_update_interval or self.policy_delay

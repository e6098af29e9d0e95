"""CrossQ: its keys, their types and ranges."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from trainers.config.off_policy import EntropyConfig, SlicesConfig
from trainers.config.schema import number


@dataclass(frozen=True)
class CrossQConfig(EntropyConfig, SlicesConfig):
    """Keys of `algo=crossq`; `configs/algo/crossq.yaml` says what each is for."""

    name: Literal["crossq"] = "crossq"
    lr: float = number(1e-3, gt=0)
    beta1: float = number(0.5, ge=0, lt=1)

    policy_delay: int = number(3, ge=1)
    num_critics: int = number(2, ge=1)
    critic_hidden: list[int] | None = field(default=None, metadata={"ge": 1, "min_items": 1})
    renorm_momentum: float = number(0.01, gt=0, le=1)
    renorm_warm_up: int = number(100_000, ge=0)
    loss_function: Literal["l2", "l1", "smooth_l1"] = "l2"

"""Soft actor-critic: its keys, their types and ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainers.config.algo import AlgoConfig
from trainers.config.errors import ConfigError
from trainers.config.schema import number


@dataclass(frozen=True)
class SACConfig(AlgoConfig):
    """Keys of `algo=sac`; `configs/algo/sac.yaml` says what each is for."""

    name: Literal["sac"] = "sac"

    gamma: float = number(0.99, ge=0, le=1)
    lr: float = number(3e-4, gt=0)
    actor_lr: float | None = number(None, gt=0)
    critic_lr: float | None = number(None, gt=0)
    alpha_lr: float | None = number(None, gt=0)
    max_grad_norm: float | None = number(None, gt=0)

    batch_size: int = number(256, ge=1)
    buffer_size: int = number(1_000_000, ge=1)
    storage: Literal["memory", "memmap", "device"] = "memory"
    init_random_frames: int = number(5_000, ge=0)
    utd_ratio: float = number(1.0, gt=0)

    target_update: Literal["soft", "hard"] = "soft"
    tau: float = number(0.005, gt=0, le=1)
    target_update_interval: int = number(1, ge=1)

    num_critics: int = number(2, ge=1)
    loss_function: Literal["l2", "l1", "smooth_l1"] = "l2"
    delay_actor: bool = False
    delay_qvalue: bool = True
    separate_losses: bool = False
    skip_done_states: bool = False

    alpha_init: float = number(1.0, gt=0)
    min_alpha: float | None = number(None, gt=0)
    max_alpha: float | None = number(None, gt=0)
    fixed_alpha: bool = False
    target_entropy: Literal["auto"] | float = "auto"

    critic: str | None = None
    loss_module: str | None = None

    def check(self) -> None:
        """A batch fits into the buffer; alpha starts inside its own bounds."""
        if self.batch_size > self.buffer_size:
            allowed = f"at most algo.buffer_size={self.buffer_size}"
            raise ConfigError("algo.batch_size", self.batch_size, allowed)
        low, high = self.min_alpha, self.max_alpha
        if low is not None and high is not None and low > high:
            raise ConfigError("algo.min_alpha", low, f"at most algo.max_alpha={high}")
        if low is not None and self.alpha_init < low:
            raise ConfigError("algo.alpha_init", self.alpha_init, f"at least algo.min_alpha={low}")
        if high is not None and self.alpha_init > high:
            raise ConfigError("algo.alpha_init", self.alpha_init, f"at most algo.max_alpha={high}")

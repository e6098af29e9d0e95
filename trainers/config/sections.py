"""The sections that every algorithm shares; `configs/train.yaml` says what each key is for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from trainers.config.schema import Section, number


@dataclass(frozen=True)
class EnvConfig(Section):
    """Which environment, how many of it, and what is done to its actions."""

    section: ClassVar[str] = "env"

    id: str
    name: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    num_envs: int = number(1, ge=1)
    backend: Literal["sync", "async"] = "sync"
    max_episode_steps: int | None = number(None, ge=1)
    stagger: bool = True
    rescale_actions: bool = True
    clip_actions: bool = True


@dataclass(frozen=True)
class NetworkConfig(Section):
    """The multi-layer perceptrons that an algorithm makes if it is not given its own."""

    section: ClassVar[str] = "network"

    hidden: list[int] = field(
        default_factory=lambda: [256, 256], metadata={"ge": 1, "min_items": 1}
    )
    activation: Literal["relu", "tanh", "silu", "elu", "gelu", "leaky_relu"] = "relu"


@dataclass(frozen=True)
class LogConfig(Section):
    """How often a line of metrics is written, and what is in it."""

    section: ClassVar[str] = "log"

    interval: int = number(1_000, ge=0)
    episodes: bool = True
    losses: bool = True
    reward: bool = True
    done_rate: bool = True
    norms: bool = True
    update_ratio: bool = True
    grad_norm: bool = False
    lr: bool = True
    timings: bool = False


@dataclass(frozen=True)
class EvalConfig(Section):
    """How often the policy is evaluated, and how."""

    section: ClassVar[str] = "eval"

    interval: int = number(5_000, ge=0)
    episodes: int = number(10, ge=1)
    seed: int = number(10_000, ge=0, le=2**32 - 1)
    deterministic: bool = True


@dataclass(frozen=True)
class CheckpointConfig(Section):
    """How often the run is saved, and how much of it stays on disk."""

    section: ClassVar[str] = "checkpoint"

    interval: int = number(25_000, ge=0)
    keep: int = number(2, ge=1)
    best: bool = True


@dataclass(frozen=True)
class WandbConfig(Section):
    """Weights & Biases, on top of `metrics.jsonl`."""

    section: ClassVar[str] = "logger.wandb"

    project: str = "trainers"
    entity: str | None = None
    group: str | None = None
    name: str | None = None
    tags: list[str] = field(default_factory=list)
    mode: Literal["auto", "online", "offline"] = "auto"


@dataclass(frozen=True)
class LoggerConfig(Section):
    """Loggers on top of `metrics.jsonl`, which is always written; None is off."""

    section: ClassVar[str] = "logger"

    wandb: WandbConfig | None = None

"""Where the lines of a run go: `metrics.jsonl` always, TensorBoard, Weights & Biases if asked for.

A logger never stops a training run: what fails is said once, through the logger "trainers".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from trainers.config import LoggerConfig
from trainers.loggers.jsonl import JsonlLogger
from trainers.loggers.wandb import WandbLogger

__all__ = [
    "JsonlLogger",
    "Logger",
    "ResumableLogger",
    "StartedLogger",
    "VideoLogger",
    "WandbLogger",
    "make_loggers",
]


class Logger(Protocol):
    """Takes a run's metrics, one line at a time."""

    def write(self, line: Mapping[str, float | int]) -> None: ...

    def close(self) -> None: ...


@runtime_checkable
class VideoLogger(Logger, Protocol):
    """Shows films as well: MP4 files that stay where they are; may raise if it cannot."""

    def write_video(self, name: str, path: Path, frames: int) -> None: ...


@runtime_checkable
class StartedLogger(Logger, Protocol):
    """Changes nothing before `start`, when a run begins: a checkpoint may prove not to fit."""

    def start(self) -> None: ...


@runtime_checkable
class ResumableLogger(StartedLogger, Protocol):
    """Goes on where a checkpoint has left it."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


def make_loggers(
    config: LoggerConfig, run_dir: Path, run_config: Mapping[str, Any]
) -> list[Logger]:
    """The loggers of a run: `metrics.jsonl` first, then those that the configuration names."""
    loggers: list[Logger] = [JsonlLogger(run_dir / "metrics.jsonl")]
    if config.tensorboard:
        from trainers.loggers.tensorboard import TensorboardLogger  # needs an extra

        loggers.append(TensorboardLogger(run_dir / "tensorboard"))
    if config.wandb is not None:
        loggers.append(WandbLogger(config.wandb, run_dir, run_config))
    return loggers

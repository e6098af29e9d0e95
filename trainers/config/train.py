"""The whole configuration of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from trainers.config.algo import AlgoConfig
from trainers.config.errors import ConfigError
from trainers.config.schema import Section, number
from trainers.config.sections import (
    CheckpointConfig,
    CollectorConfig,
    EarlyStopConfig,
    EnvConfig,
    EvalConfig,
    LogConfig,
    LoggerConfig,
    NetworkConfig,
    ReportConfig,
)


@dataclass(frozen=True)
class TrainConfig(Section):
    """Everything that `scripts/train.py` can be told; `configs/train.yaml` explains the keys."""

    algo: AlgoConfig
    env: EnvConfig
    collector: CollectorConfig = field(default_factory=CollectorConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    log: LogConfig = field(default_factory=LogConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    early_stop: EarlyStopConfig = field(default_factory=EarlyStopConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)

    total_frames: int = number(1_000_000, ge=1)
    stop_at: int | None = number(None, ge=1)
    max_seconds: float | None = number(None, gt=0)

    seed: int = number(0, ge=0, le=2**32 - 1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = number(None, ge=1)
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    capture: bool = True

    run_dir: str | None = None
    resume: str | None = None
    resume_override: bool = False
    plugins: list[str] = field(default_factory=list)
    hooks: list[str] = field(default_factory=list)
    progress: bool = True

    @property
    def about(self) -> str:
        """What is learnt by which algorithm, in words."""
        return f"{self.algo.name} on {self.env.id}"

    def check(self) -> None:
        """What depends on several sections."""
        if self.stop_at is not None and self.stop_at > self.total_frames:
            raise ConfigError("stop_at", self.stop_at, f"at most total_frames={self.total_frames}")
        self.algo.check_envs(self.env.num_envs)
        if self.collector.async_:
            self.algo.check_async()

    @classmethod
    def _suggest(cls, unknown: str, data: Mapping[str, Any], known: list[str]) -> str | None:
        of_algo = AlgoConfig.suggest(unknown, data.get("algo"))
        return of_algo or super()._suggest(unknown, data, known)

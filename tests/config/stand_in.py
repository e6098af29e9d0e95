"""What the tests of the command line run instead of a training."""

from __future__ import annotations

from pathlib import Path

from trainers.config import TrainConfig, save_config


class Runs:
    """Stands for `trainers.run`: remembers what it was called with, writes what a run writes."""

    def __init__(self) -> None:
        self.calls: list[tuple[TrainConfig, Path, Path | None]] = []
        self.outcomes: list[int | BaseException] = []  # of the next calls; 0 when used up

    def run(self, config: TrainConfig, run_dir: Path, resume_from: Path | None) -> int:
        self.calls.append((config, run_dir, resume_from))
        outcome = self.outcomes.pop(0) if self.outcomes else 0
        if isinstance(outcome, BaseException):
            raise outcome
        save_config(config, run_dir / "config.yaml")
        return outcome

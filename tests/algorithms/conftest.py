"""What the tests of all algorithms share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from trainers.build import build
from trainers.config import TrainConfig
from trainers.trainer import Trainer


@pytest.fixture
def make() -> Iterator[Any]:
    """Builds trainers whose environments are closed after the test."""
    made: list[Trainer] = []

    def make_trainer(config: TrainConfig) -> Trainer:
        made.append(build(config).trainer)
        return made[-1]

    yield make_trainer
    for trainer in made:
        trainer.collector.shutdown()

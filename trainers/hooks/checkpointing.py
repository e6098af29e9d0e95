"""The run is saved."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trainers.saving.checkpoint import CheckpointError, load
from trainers.trainer import Trainer

logger = logging.getLogger("trainers")


class Checkpoint:
    """Saves everything the run consists of to ``directory``, and keeps the last ``keep``.

    Register it at ``checkpoint``, the stage after everything else. If the disk cannot take it,
    training goes on, the previous checkpoint stays, and ``failed`` says so.
    """

    name = "checkpoints"

    def __init__(self, directory: Path, keep: int = 2) -> None:
        self.directory = directory
        self.keep = keep
        self.failed = False

    def __call__(self, trainer: Trainer) -> None:
        target = self.directory / f"{trainer.frames:010d}-{trainer.updates:010d}"
        if target.exists():
            return  # the counters are the same, so the state is
        begin = time.perf_counter()
        with trainer.stopwatch.paused():
            try:
                for killed in self.directory.glob(".*.partial"):  # they may be what fills the disk
                    shutil.rmtree(killed, ignore_errors=True)
                trainer.save(target, previous=next(iter(checkpoints(self.directory)), None))
            except OSError as error:
                self.failed = True
                logger.error("NO CHECKPOINT at frame %d: %s", trainer.frames, error)
                return
            self.failed = False
            passed_over = self.directory.glob("later-*")  # of a run that was resumed from before
            for old in (*checkpoints(self.directory)[self.keep :], *passed_over):
                shutil.rmtree(old, ignore_errors=True)
        trainer.metrics.add("time/checkpoint_s", time.perf_counter() - begin)


def checkpoints(directory: Path) -> list[Path]:
    """The checkpoints in ``directory``, newest first."""
    if not directory.is_dir():
        return []
    return sorted((p for p in directory.iterdir() if p.name[0].isdigit()), reverse=True)


def newest_valid(directory: Path) -> Path | None:
    """The newest checkpoint that can be loaded; see :func:`load_first`."""
    found = load_first(checkpoints(directory))
    return None if found is None else found[0]


def load_first(paths: Iterable[Path]) -> tuple[Path, dict[str, Any]] | None:
    """The first of the checkpoints ``paths`` that can be loaded, and its state.

    Damaged ones are named and passed over.
    """
    for path in paths:
        try:
            return path, load(path)
        except CheckpointError as error:
            logger.warning("skipping a damaged checkpoint: %s", error)
    return None

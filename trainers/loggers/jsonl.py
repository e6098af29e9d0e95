"""`metrics.jsonl`, the record of a run that is always kept."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path

from trainers.loggers.files import GrowingFile

log = logging.getLogger("trainers")


class JsonlLogger:
    """Appends one strict JSON object a line; NaN and infinities, which JSON lacks, become null.

    A last line that a crash cut short is dropped on opening. `load_state_dict` drops the lines
    written after the checkpoint, so that `frames` never goes back in a resumed run.
    """

    def __init__(self, path: Path) -> None:
        self._file = GrowingFile(path)
        self._trim()

    def write(self, line: Mapping[str, float | int]) -> None:
        strict = {key: value if math.isfinite(value) else None for key, value in line.items()}
        self._file.append(json.dumps(strict).encode() + b"\n")

    def close(self) -> None:
        """Nothing is held open."""

    def state_dict(self) -> dict[str, int]:
        return {"bytes": self._file.end}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        offset = state["bytes"]
        if self._file.end < offset:
            log.warning(
                "%s is shorter (%d bytes) than at the checkpoint (%d): some of its lines are lost",
                *(self._file.path, self._file.end, offset),
            )
        self._trim(offset)

    def _trim(self, limit: int | None = None) -> None:
        """Cuts the file after the last line that is complete within `limit` bytes."""
        path = self._file.path
        with self._file.warn_once():
            if path.exists():
                self._file.end = path.read_bytes()[:limit].rfind(b"\n") + 1
                os.truncate(path, self._file.end)

"""`metrics.jsonl`, the record of a run that is always kept."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from trainers.loggers.files import GrowingFile


class JsonlLogger:
    """Appends one strict JSON object a line; NaN and infinities, which JSON lacks, become null.

    `start` drops a last line that a crash cut short and, after `load_state_dict`, the lines written
    after the checkpoint, so that `frames` never goes back in a resumed run. Nothing before it
    changes the file.
    """

    def __init__(self, path: Path) -> None:
        self._file = GrowingFile(path)
        self._file.end = self._end_of_lines()
        self.restored = ("exact", "")

    def start(self) -> None:
        """Drop what stands behind the last line that counts."""
        self._file.cut()

    def write(self, line: Mapping[str, float | int]) -> None:
        strict = {key: value if math.isfinite(value) else None for key, value in line.items()}
        self._file.append(json.dumps(strict).encode() + b"\n")

    def close(self) -> None:
        """Nothing is held open."""

    def state_dict(self) -> dict[str, int]:
        """Where the file ends; up to there it outlives the machine, as a checkpoint does."""
        self._file.sync()
        return {"bytes": self._file.end}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        offset = state["bytes"]
        self._file.end = end = self._end_of_lines(offset)
        self.restored = ("exact", "")
        if end < offset:
            why = f"some lines of {self._file.path} are lost, {end} of {offset} bytes are there"
            self.restored = ("statistical", why)

    def _end_of_lines(self, limit: int | None = None) -> int:
        """Where the last line ends that is complete within `limit` bytes."""
        path = self._file.path
        with self._file.warn_once():
            if path.exists():
                return path.read_bytes()[:limit].rfind(b"\n") + 1
        return 0

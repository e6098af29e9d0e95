"""TensorBoard's event files.

Written by TensorBoard's own record writer, not by torch's SummaryWriter: that one writes in a
thread, which a full disk ends for good, with a traceback and a half record that hides the rest.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore  # generated
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore  # generated
from tensorboard.summary.writer.record_writer import RecordWriter

from trainers.loggers.files import GrowingFile


class TensorboardLogger:
    """Writes every entry of a line as a scalar of the same name, over `frames`.

    Each start of a run has a file of its own in `directory`, TensorBoard reads them in their order.
    A file first hides what the earlier ones hold from its first line on. After `load_state_dict`
    that is the last line before the checkpoint, which `start` writes once more, so there is no
    point that `metrics.jsonl` lacks.
    """

    def __init__(self, directory: Path) -> None:
        self._file = GrowingFile(directory / f"events.out.tfevents.{time.time_ns()}")
        self._last_line: dict[str, float] = {"frames": 0}
        self._loaded = False

    def start(self) -> None:
        """Hide what was written after the checkpoint that was loaded, if one was."""
        if self._loaded:
            self.write(self._last_line)

    def write(self, line: Mapping[str, float | int]) -> None:
        self._last_line = dict(line)
        scalars = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in line.items()
            if name != "frames"
        ]
        self._append(int(line["frames"]), Summary(value=scalars))

    def write_video(self, name: str, path: Path, frames: int) -> None:
        """As an animated picture, since TensorBoard shows no films."""
        from trainers.policies.films import preview  # torch, for those who film

        picture = Summary.Image(encoded_image_string=preview(path), colorspace=3)
        self._append(frames, Summary(value=[Summary.Value(tag=name, image=picture)]))

    def _append(self, frames: int, summary: Any) -> None:
        events = [Event(step=frames, summary=summary)]
        if self._file.end == 0:
            with self._file.warn_once():
                self._file.path.parent.mkdir(exist_ok=True)
            start = Event(step=frames, session_log=SessionLog(status=SessionLog.START))
            events = [Event(file_version="brain.Event:2"), start, *events]
        self._file.append(b"".join(_record(event) for event in events))

    def close(self) -> None:
        """Nothing is held open."""

    def state_dict(self) -> dict[str, Any]:
        return {"last_line": self._last_line}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._last_line, self._loaded = dict(state["last_line"]), True


def _record(event: Event) -> bytes:
    """An event as it stands in a file: with its length and checksums."""
    event.wall_time = time.time()
    buffer = io.BytesIO()
    RecordWriter(buffer).write(event.SerializeToString())
    return buffer.getvalue()

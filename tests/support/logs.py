"""Reading back what the loggers wrote."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record


def jsonl_lines(path: Path) -> list[dict[str, float | None]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def warnings(caplog: pytest.LogCaptureFixture) -> int:
    """How many the project itself has said."""
    return sum(
        record.name == "trainers" and record.levelno == logging.WARNING for record in caplog.records
    )


def tensorboard_points(directory: Path) -> list[tuple[int, str, float]]:
    """Frame, name and value of every point that TensorBoard shows, in this order."""
    shown = EventAccumulator(str(directory), {"scalars": 0}).Reload()
    names = shown.Tags()["scalars"]
    return sorted((p.step, name, p.value) for name in names for p in shown.Scalars(name))


def points(lines: Iterable[Mapping[str, float]]) -> list[tuple[int, str, float]]:
    """What TensorBoard has to show of these lines: its values are 32-bit floats."""
    return sorted(
        (int(line["frames"]), name, float(np.float32(value)))
        for line in lines
        for name, value in line.items()
        if name != "frames"
    )


def wandb_files(run_dir: Path) -> list[Path]:
    return sorted((run_dir / "wandb").glob("offline-run-*/*.wandb"))


def wandb_records(path: Path) -> list[Record]:
    """The records of an offline run: LevelDB's log format behind a header of 7 bytes."""
    data, at, records, parts = path.read_bytes(), 7, [], b""
    while at + 7 <= len(data):
        if 32_768 - at % 32_768 < 7:  # too little left in the block for a record's header
            at += 32_768 - at % 32_768
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            records.append(Record.FromString(parts))
            parts = b""
    return records


def wandb_lines(path: Path) -> list[dict[str, float]]:
    rows = [record.history.item for record in wandb_records(path) if record.HasField("history")]
    return [
        {
            key: json.loads(item.value_json)
            for item in row
            if (key := item.key or item.nested_key[0])
        }
        for row in rows
    ]

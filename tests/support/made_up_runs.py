"""Run directories without a training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainers.config import TrainConfig, save_config


def make_run(
    path: Path,
    returns: Sequence[float] = (1.0, 2.0, 3.0),
    *,
    algo: str = "sac",
    env: str = "HalfCheetah-v5",
    seed: int = 0,
    every: int = 1000,
    total_frames: int | None = None,
    seconds_per_frame: float = 0.01,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """A run that was evaluated `every` so many frames; finished, unless `total_frames` is more."""
    data: dict[str, Any] = {
        "algo": {"name": algo},
        "env": {"id": env, "name": env},
        "log": {"interval": every},
        "eval": {"interval": every},
        "total_frames": total_frames or every * len(returns),
        "seed": seed,
    }
    for key, value in (settings or {}).items():
        section, _, name = key.rpartition(".")
        (data.setdefault(section, {}) if section else data)[name] = value
    path.mkdir(parents=True)
    save_config(TrainConfig.from_dict(data), path / "config.yaml")
    lines = []
    for number, value in enumerate(returns, 1):
        frames = number * every
        line = {
            "frames": frames,
            "updates": frames - every,
            "seconds": round(frames * seconds_per_frame, 3),
            "loss/actor": -value,
            "train/episode_return": value / 2,
            "time/frames_per_s": 100.0 * number,
            "eval/episode_return": value,
        }
        lines.append(json.dumps(line))
    write_lines(path, lines)
    return path


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Take these for the run's metrics."""
    (path / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))


def line(frames: Any, **entries: Any) -> str:
    """A line of metrics; two underscores stand for a slash."""
    named = {key.replace("__", "/"): value for key, value in entries.items()}
    return json.dumps({"frames": frames, "updates": 0, "seconds": 1.0} | named)

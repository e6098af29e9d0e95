"""Are two runs the same, bit for bit? Component by component."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainers.hooks.checkpointing import checkpoints
from trainers.saving import checkpoint
from trainers.saving.restoring import component
from trainers.saving.segments import Rows

# What differs between equal runs: the time they took, and the length of a log with it.
_VOLATILE = re.compile(
    r"/stopwatch/|/hooks/metrics/(window/seconds|logs/)|/metrics/[a-z]+/(\d+/)?time/"
)


def differences(one: Path, two: Path) -> dict[str, list[str]]:
    """What differs between two finished runs, by component; an empty list where nothing does.

    Raises:
        CheckpointError: a run has no checkpoint that can be read.
    """
    found = {"metrics.jsonl": _between_lines(one, two)}
    found |= _between_states(_newest(one), _newest(two))
    if (one / "best").exists() or (two / "best").exists():
        found["best policy"] = _between_best(one / "best", two / "best")
    return found


def _between_best(one: Path, two: Path) -> list[str]:
    if not (one.exists() and two.exists()):
        return [f"only the {'first' if one.exists() else 'second'} has one"]
    found = _between_states(checkpoint.load(one), checkpoint.load(two))
    return [each for differing in found.values() for each in differing]


def _newest(run_dir: Path) -> dict[str, Any]:
    saved = checkpoints(run_dir / "checkpoints")
    if not saved:
        raise checkpoint.CheckpointError(f"{run_dir} has no checkpoint")
    return checkpoint.load(saved[0])


def _between_lines(one: Path, two: Path) -> list[str]:
    lines = [_timeless(each / "metrics.jsonl") for each in (one, two)]
    if len(lines[0]) != len(lines[1]):
        return [f"{len(lines[0])} lines, {len(lines[1])} lines"]
    found = []
    for number, (left, right) in enumerate(zip(*lines, strict=True), start=1):
        for key in left.keys() | right.keys():
            if left.get(key) != right.get(key):
                found.append(f"line {number}: {key} is {left.get(key)}, {right.get(key)}")
    return found


def _timeless(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        {
            key: value
            for key, value in line.items()
            if key != "seconds" and not key.startswith("time/")
        }
        for line in lines
    ]


def _between_states(one: dict[str, Any], two: dict[str, Any]) -> dict[str, list[str]]:
    left, right = dict(_leaves(one)), dict(_leaves(two))
    found: dict[str, list[str]] = {}
    for path in dict.fromkeys([*left, *right]):
        if is_volatile(path):
            continue
        differing = found.setdefault(component(path), [])
        if path not in left or path not in right:
            differing.append(f"{path} is only in the {'first' if path in left else 'second'}")
        elif (how := _difference(left[path], right[path])) is not None:
            differing.append(f"{path}: {how}")
    return found


def is_volatile(path: str) -> bool:
    """Whether equal runs may differ in what a state has at ``path``."""
    return _VOLATILE.match(path) is not None


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Rows):
        value = {"first": value.first, "end": value.end, **value.tables()}
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _leaves(each, f"{path}/{key}")
    elif isinstance(value, (list, tuple)):
        for index, each in enumerate(value):
            yield from _leaves(each, f"{path}/{index}")
    else:
        yield path, value


def _difference(one: Any, two: Any) -> str | None:
    arrays = [isinstance(each, (Tensor, np.ndarray)) for each in (one, two)]
    if not all(arrays):
        same = not any(arrays) and repr(one) == repr(two)  # which tells -0.0 from 0.0
        return None if same else f"{one!r:.60}, {two!r:.60}"
    one, two = (torch.as_tensor(each).contiguous() for each in (one, two))
    if one.dtype != two.dtype or one.shape != two.shape:
        return f"{one.dtype} {list(one.shape)}, {two.dtype} {list(two.shape)}"
    if torch.equal(*(each.reshape(-1).view(torch.uint8) for each in (one, two))):
        return None
    apart = (one.double() - two.double()).abs().nan_to_num(torch.inf).max().item()
    differing = int((~((one == two) | (one != one) & (two != two))).sum())
    return f"{differing} of {one.numel()} numbers, up to {apart:.3g} apart"

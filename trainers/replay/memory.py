"""How much memory a replay buffer takes, and how much there is: asked before any of it is taken."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from trainers.config import ConfigError
from trainers.config.off_policy import OffPolicyConfig
from trainers.networks.cnn import Inputs
from trainers.replay.samplers import Tree

_FLAGS = 3  # done, terminated, truncated
_REWARD = 4


def check_memory(
    config: OffPolicyConfig, inputs: Inputs, action_spec: Any, device: torch.device
) -> str:
    """See that the configured buffer can be filled; returns what it takes, in a line.

    Args:
        config: of the buffer.
        inputs: what observations are like; pictures are kept once, see
            :class:`~trainers.replay.pictures.Pictures`.
        action_spec: of one environment's actions.
        device: where ``algo.storage=device`` puts it.

    Raises:
        ConfigError: it would not fit.
    """
    size = config.buffer_size
    each = transition_bytes(inputs, action_spec)
    need = size * each + (_tree_bytes(size) if config.prioritized else 0)
    where, there = _room(config.storage, device)
    if there is not None and need > there:
        hint = f"it takes {_size(need)} in {where}, of which {_size(there)} are available"
        allowed = f"at most {max(0, int(size * there / need)):_}"
        raise ConfigError("algo.buffer_size", size, allowed, hint)
    left = "" if there is None else f", of which {_size(there)} are available"
    return f"the replay buffer takes {_size(need)} for {size:_} transitions in {where}{left}"


def transition_bytes(inputs: Inputs, action_spec: Any) -> int:
    """Of one transition as it is kept."""
    kind = action_spec.dtype
    row = kind.itemsize * action_spec.shape.numel() + _REWARD + _FLAGS
    apart = 0
    if isinstance(inputs, int):
        row += 2 * 4 * inputs  # its own observation and the next one, in float32
    else:
        apart = inputs[1] * inputs[2] + 5  # a picture, and which one it follows
    widest = max(4, kind.itemsize)
    return widest * math.ceil(row / widest) + apart  # see RowStorage


def _tree_bytes(size: int) -> int:
    """Of the two trees of :class:`~trainers.replay.samplers.Prioritized`."""
    return 2 * 8 * sum(map(math.prod, Tree.shapes(size)))


def _room(storage: str, device: torch.device) -> tuple[str, int | None]:
    """Where it would be, and the bytes that are free there."""
    if storage == "memmap":
        place = tempfile.gettempdir()
        return place, shutil.disk_usage(place).free
    if storage == "device" and device.type == "cuda":
        return "the GPU's memory", torch.cuda.mem_get_info(device)[0]
    return "memory", available_memory()


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that the machine has left, or if that is less the control groups of this process.

    None where nobody tells. ``root`` has ``proc`` and ``sys``.
    """
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        machine = [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")]
    except OSError:  # not Linux
        machine = []
    return min([*machine, *_left_in_groups(root)], default=None)


def _left_in_groups(root: Path) -> Iterator[int]:
    """Of both versions of control groups, of those around this process's own as well."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        elif not controllers:
            top = root / "sys/fs/cgroup"
            names = ("memory.max", "memory.current", "inactive_file")
        else:
            continue
        group = top / path.lstrip("/")
        while group.is_relative_to(top):
            if (left := _left_in(group, *names)) is not None:
                yield left
            group = group.parent


def _left_in(group: Path, limit: str, usage: str, cache: str) -> int | None:
    """None where there is no limit; files that are only cached will make room."""
    try:
        most = int((group / limit).read_text())
        used = int((group / usage).read_text())
        lines = (group / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):  # "max", or a container that does not see its own group
        return None
    return max(0, most - used + sum(int(n) for name, n in map(str.split, lines) if name == cache))


def _size(number: float) -> str:
    unit, name = (1e9, "GB") if number >= 1e8 else (1e6, "MB")
    return f"{number / unit:.3g} {name}"

"""Is a process still there?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path


def runs(pid: int) -> bool:
    """Whether it has not ended; one that nobody has waited for has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def left(pids: Sequence[int], seconds: float = 20) -> list[int]:
    """Which of them are there after a while."""
    end = time.monotonic() + seconds
    while any(map(runs, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    return [pid for pid in pids if runs(pid)]


def appears(path: Path, seconds: float = 60) -> str:
    """What is in a file, once there is something."""
    end = time.monotonic() + seconds
    while not path.exists() or not path.read_text():
        assert time.monotonic() < end, f"no {path}"
        time.sleep(0.02)
    return path.read_text()

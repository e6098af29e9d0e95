"""Published scores to compare with; the numbers and where they are from are in `anchors.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Anchor:
    """A published score of an algorithm after so many frames."""

    algo: str
    env: str  # the version it was measured in
    frames: int
    score: float
    std: float | None  # over seeds; None if it was not published, or there is one seed
    seeds: int
    of: str  # which number of a run
    source: str  # short, for a legend
    citation: str

    @property
    def version(self) -> str:
        """Of the environment: v4."""
        return self.env.rpartition("-")[2]


@cache
def _all() -> list[tuple[frozenset[str], Anchor]]:
    """Every anchor, with the environments that it is shown for."""
    data = json.loads((Path(__file__).parent / "anchors.json").read_text("utf-8"))
    found = []
    for entry in data["anchors"]:
        shown_for = frozenset(entry.pop("shown_for"))
        found.append((shown_for, Anchor(**entry | data["sources"][entry["source"]])))
    return found


def anchors(algo: str, env: str) -> list[Anchor]:
    """The anchors of an algorithm in an environment, by frames."""
    found = [anchor for envs, anchor in _all() if anchor.algo == algo and env in envs]
    return sorted(found, key=lambda anchor: anchor.frames)

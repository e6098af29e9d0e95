"""The tables, and what they depend on."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.figures import (
    MoreThan,
    Samples,
    median,
    number,
    spread,
    typical_advantage,
    verdict,
)
from benchmarks.machine import commit, cpu
from benchmarks.rows import (
    DDPG,
    DQN,
    ENV_ID,
    LEARNING,
    LIMITS,
    PPO,
    ROWS,
    SAC,
    TD3,
    Growth,
    Limit,
    Row,
)

RESULTS = peers.ROOT / "benchmarks" / "results"
PACKAGES = ("torch", "torchrl", "tensordict", "gymnasium", "mujoco", "numpy")


def conditions(
    threads: int, repeats: int, groups: Sequence[str], contestants: Sequence[str]
) -> dict[str, Any]:
    """What the figures depend on, as the run begins."""
    packages = (*PACKAGES, "envpool") if "envpool" in groups else PACKAGES
    return {
        "date": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "commit": commit(),
        "cpu": f"{cpu()}, {peers.gpu()}" if "gpu" in groups else cpu(),
        "cores": os.cpu_count(),
        "threads": threads,
        "repeats": repeats,
        "load": os.getloadavg()[0],
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in packages},
            **{peer: peers.versions(peer) for peer in contestants},
        },
    }


def report(samples: Samples, about: Mapping[str, Any]) -> str:
    """The tables under the conditions they hold for, in Markdown."""
    versions = []
    for name, value in about["versions"].items():
        inner = value if isinstance(value, str) else ", ".join(f"{k} {v}" for k, v in value.items())
        versions.append(f"{name} {inner}" if isinstance(value, str) else f"{name} ({inner})")
    paragraphs = [
        f"{ENV_ID} where no row says otherwise, {about['date']}, commit {about['commit']}, "
        f"{about['cpu']}, "
        f"{about['threads']} of {about['cores']} cores, load before the run "
        f"{about['load']:.2f}, {about['repeats']} rounds in turn.",
        f"Versions: {'; '.join(versions)}.",
        *(f"Not measured: {skipped}." for skipped in about["skipped"]),
        table(samples),
        growth_table(samples),
    ]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph) + "\n"


def table(samples: Samples) -> str:
    """Medians, spreads, and what they say against the limits, in Markdown; empty if none."""
    head = ("measurement", "who", "median", "min - max", "runs")
    lines = []
    for (name, who), values in sorted(samples.items(), key=_place):
        row = ROWS[name]
        if isinstance(row, Growth):
            continue
        ours = samples.get((name, "ours"))
        compared = [""] * 4
        if who != "ours" and ours is not None:
            figure = typical_advantage(row.kind, ours, values)
            compared = _compared(row.kind, figure, LIMITS.get((name, who)))
        lines.append([*_measured(row, who, values), *compared])
    return markdown([*head, "ours to it", "must", "goal", "reached"], lines)


def growth_table(samples: Samples) -> str:
    """What becomes of our own figures as the work grows, in Markdown; empty if none are there."""
    head = ("as the work grows", "to", "median", "min - max", "runs")
    lines = []
    for (name, size), values in sorted(samples.items(), key=_place):
        row = ROWS[name]
        if not isinstance(row, Growth):
            continue
        smallest = samples.get((name, str(row.sizes[0])))
        compared = [""] * 3
        if smallest is not None:
            ratio = typical_advantage("rate", values, smallest)
            limit = row.at_most if size == str(row.sizes[-1]) else None
            reached = "" if limit is None else "must" if ratio <= limit else "MISSED"
            compared = [_shown("rate", ratio), _shown("rate", limit), reached]
        lines.append([*_measured(row, f"{int(size):,}", values), *compared])
    return markdown([*head, "to the first", "at most", "reached"], lines)


def _place(item: tuple[tuple[str, str], list[float]]) -> tuple[int, int]:
    """Rows and sizes in their order, contestants as they came."""
    (name, who), _ = item
    row = ROWS[name]
    return list(ROWS).index(name), row.sizes.index(int(who)) if isinstance(row, Growth) else 0


def _measured(row: Row, who: str, values: Sequence[float]) -> list[str]:
    least, largest = map(number, spread(values))
    return [
        row.title,
        who,
        f"{number(median(values))} {row.unit}",
        f"{least} - {largest}",
        f"{len(values)}",
    ]


def _compared(kind: str, figure: float, limit: Limit | None) -> list[str]:
    if limit is None:
        return [_shown(kind, figure), "", "", ""]
    return [
        *(_shown(kind, each) for each in (figure, limit.must, limit.goal)),
        verdict(kind, figure, limit),
    ]


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table; empty if it has no lines."""
    if not lines:
        return ""
    first, *others = (f"| {' | '.join(cells)} |" for cells in (head, *lines))
    return "\n".join([first, "|" + "---|" * len(head), *others])


def _shown(kind: str, figure: float | None) -> str:
    """A ratio, or seconds more."""
    if figure is None:
        return ""
    more = "> " if isinstance(figure, MoreThan) else ""
    return f"{figure:+.2f} s" if kind == "excess" else f"{more}{figure:.2f}x"


def keep(samples: Samples, about: Mapping[str, Any], directory: Path = RESULTS) -> Path:
    """Write the report, and every single value, into files of this date."""
    directory.mkdir(parents=True, exist_ok=True)
    stem = about["date"].replace(" ", "-").replace(":", "")
    path = directory / f"{stem}-cpu.md"
    path.write_text(report(samples, about))
    rows: dict[str, dict[str, list[float | str]]] = {}
    for (row, who), values in samples.items():
        rows.setdefault(row, {})[who] = [
            number(v) if isinstance(v, MoreThan) else v for v in values
        ]
    settings = {"sac": SAC, "td3": TD3, "ddpg": DDPG, "dqn": DQN, "ppo": PPO}
    settings["learning"] = LEARNING
    content = {**about, "settings": settings, "values": rows}
    path.with_suffix(".json").write_text(json.dumps(content, indent=2) + "\n")
    return path

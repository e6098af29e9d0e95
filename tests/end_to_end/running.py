"""Runs small enough for a test, and what they leave behind."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import my_plugin
import pytest
from omegaconf import OmegaConf
from support.algorithms import command
from support.states import assert_same, flat

from trainers.config import cli
from trainers.hooks.checkpointing import checkpoints
from trainers.saving.checkpoint import load
from trainers.saving.comparison import is_volatile

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SCRIPT = ROOT / "scripts" / "train.py"

TINY = command("sac")
TINY_PPO = command("ppo")


def train(*arguments: str) -> int:
    """`scripts/train.py` in this process; its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *arguments])
        patch.setenv("HYDRA_FULL_ERROR", "")  # main sets it: put it back afterwards
        patch.setattr(cli, "_run", _run)
        try:
            return cli.main()
        except SystemExit as stop:
            return int(stop.code or 0)


_hand_over = cli._run


def _run(plan: Any) -> None:
    """A single job, as it was checked: Hydra composes it twice more, for most of a test's time.

    Sweeps go through Hydra, and so does whatever `script` runs.
    """
    if len(plan.configs) != 1 or "--multirun" in plan.argv:
        return _hand_over(plan)
    sys.exit(cli._guarded(OmegaConf.create(plan.configs[0].to_dict()), []))


def script(
    *arguments: str, cwd: Path | None = None, timeout: float = 180, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`scripts/train.py` in a process of its own."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        cwd=cwd,
        env=variables(**environment),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def forked(*arguments: str, before: Callable[[], None] = lambda: None) -> int | None:
    """`train` in a copy of this process, which may come to harm; its exit code."""

    def run() -> None:
        before()
        sys.exit(train(*arguments))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(timeout=180)
    return process.exitcode


def variables(**more: str) -> dict[str, str]:
    """The environment of such a process: it finds the package and `my_plugin`."""
    return os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"} | more


def lines(run_dir: Path) -> list[dict[str, Any]]:
    """The metrics of a run; strict JSON or an error."""
    text = (run_dir / "metrics.jsonl").read_text()
    assert text.endswith("\n")
    return [json.loads(line, parse_constant=_refuse) for line in text.splitlines()]


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def names(run_dir: Path) -> list[str]:
    """Its checkpoints, newest first."""
    return [path.name for path in checkpoints(run_dir / "checkpoints")]


def last_state(run_dir: Path) -> dict[str, Any]:
    """What its newest checkpoint holds."""
    return load(checkpoints(run_dir / "checkpoints")[0])


def assert_equal_runs(one: Path, two: Path) -> None:
    """All metrics, and every tensor and number of the newest checkpoint, are the same."""
    assert _timeless(lines(one)) == _timeless(lines(two))
    assert names(one)[0] == names(two)[0]
    assert_same(_stable(last_state(one)), _stable(last_state(two)))


def _timeless(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {k: v for k, v in line.items() if k != "seconds" and not k.startswith("time/")}
        for line in lines
    ]


def _stable(state: dict[str, Any]) -> dict[str, Any]:
    return {path: value for path, value in flat(state).items() if not is_volatile(path)}


def parameters(state: dict[str, Any]) -> dict[str, Any]:
    """Networks and optimizers in a checkpoint."""
    return flat(state["phases"])


def seen_trainer() -> Any:
    """The trainer of the last run in this process that had the hook `spy`."""
    return my_plugin.TRAINERS[-1]

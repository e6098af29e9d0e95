"""Every test of the command line starts in an empty directory, without torch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from stand_in import Runs

from trainers.config.cli import main

ROOT = Path(__file__).resolve().parents[2]

# Runs the real script with a `trainers.run` that only prints, then says whether torch was needed.
_DRIVER = """
import runpy, sys, types
stub = types.ModuleType("trainers.run")
stub.run = lambda config, run_dir, resume_from: print("ran", run_dir) or 0
sys.modules["trainers.run"] = stub
sys.argv[0] = "scripts/train.py"
try:
    runpy.run_path({script!r}, run_name="__main__")
finally:
    print("torch" if "torch" in sys.modules else "no torch", file=sys.stderr)
"""


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    stand_in = Runs()
    monkeypatch.setitem(sys.modules, "trainers.run", SimpleNamespace(run=stand_in.run))
    return stand_in


@pytest.fixture
def train(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`scripts/train.py` in this process, with `runs` for the training."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")  # main sets it: put it back afterwards

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        try:
            return main()
        except SystemExit as stop:
            return int(stop.code or 0)

    return call


@pytest.fixture
def script() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`scripts/train.py` as a process of its own."""
    driver = _DRIVER.format(script=str(ROOT / "scripts" / "train.py"))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", driver, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)

    return call

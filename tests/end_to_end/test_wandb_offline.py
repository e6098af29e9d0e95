"""Weights & Biases without a key and without a network, over a resume."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from running import TINY, assert_equal_runs, forked, lines


def test_a_run_and_its_resume(capfd: pytest.CaptureFixture[str], finished: Path) -> None:
    assert forked(*TINY, "logger=wandb", "run_dir=run", "stop_at=70") == 0
    said = capfd.readouterr().err
    assert len(re.findall("Weights & Biases is offline", said)) == 1
    starts = [line.split()[0] for line in said.splitlines()]
    assert starts[:-1] == ["sac", "the", "Weights", "ended", "best"]  # last comes how to look at it
    assert forked("resume=run") == 0
    run_id = Path("run/wandb_id").read_text().strip()
    starts = sorted(path.name for path in Path("run/wandb").glob("offline-run-*"))
    assert len(starts) == 2
    assert all(name.endswith(f"-{run_id}") for name in starts)
    files = list(Path("run/wandb").glob(f"offline-run-*/run-{run_id}.wandb"))
    assert len(files) == 2
    assert all(b"train/lr/actor" in file.read_bytes() for file in files)
    assert lines(Path("run"))[-1]["frames"] == 160
    assert_equal_runs(Path("run"), finished)
    assert [path.name for path in Path().iterdir()] == ["run"]

"""`scripts/verify_resume.py`: a run of the user's own, straight and killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "verify_resume.py"
PLUGINS = ROOT / "tests" / "end_to_end"
TINY = (
    *("env=Pendulum", "env.max_episode_steps=25", "network.hidden=[16,16]", "total_frames=1500"),
    *("log.interval=50", "eval.interval=60", "eval.episodes=1", "algo.batch_size=16"),
    *("algo.init_random_frames=40", "threads=1", "device=cpu", "progress=false"),
)


def verify(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(map(str, (ROOT, PLUGINS)))
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("kills", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_is_the_same(kills: int, tmp_path: Path) -> None:
    """Each of its processes takes seconds to import torch."""
    done = verify(*TINY, f"--kills={kills}", "--keep", "kept", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kill 1: " in done.stdout
    assert "DIFFERS" not in done.stdout
    assert "the resumed run is the same, bit for bit" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["killed", "straight"]


@pytest.mark.slow
def test_an_environment_that_no_seed_brings_back_is_told(tmp_path: Path) -> None:
    mine = ("plugins=[my_plugin]", "env=gym", "env.id=mine/Forgetful-v0")
    done = verify(*TINY, *mine, "--kills", "2", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "DIFFERS" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("env=HalfCheeta",), "did you mean HalfCheetah?"),
        (("run_dir=here",), 'run_dir: got "run_dir=here", expected not to be given'),
        (("resume=auto",), "resume: got"),
        (("--kills=0",), "--kills: got 0, expected at least 1"),
        (("--keep=.",), "--keep: . exists already"),
        (("env=HalfCheetah", "total_frames=0"), "total_frames"),
    ],
)
def test_wrong_input(arguments: tuple[str, ...], told: str, tmp_path: Path) -> None:
    done = verify(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())

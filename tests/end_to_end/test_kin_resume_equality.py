"""SAC's kin, stopped and resumed by the script: the run that was never stopped, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import TINY, assert_equal_runs, lines, script, train

RUNS = {
    "crossq": ("algo.renorm_warm_up=30",),
    "discrete_sac": ("env=CartPole",),
    "redq": ("algo.utd_ratio=3", "algo.policy_delay=2", "algo.num_critics=3"),
    "tqc": ("algo.num_critics=2",),
}


@pytest.mark.parametrize("name", RUNS)
def test_stop_at(name: str) -> None:
    arguments = (*TINY, f"algo={name}", *RUNS[name])
    assert train(*arguments, "run_dir=straight") == 0
    assert train(*arguments, "run_dir=run", "stop_at=107") == 0
    assert lines(Path("run"))[-1]["frames"] == 107
    process = script("resume=run")  # in a fresh process
    assert process.returncode == 0, process.stderr
    assert "statistical" not in process.stderr
    assert_equal_runs(Path("run"), Path("straight"))

"""The shipped presets learn."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import lines, train

pytestmark = pytest.mark.slow


def last_returns(number: int) -> float:
    """Mean of the last evaluations."""
    found = [line["eval/episode_return"] for line in lines(Path("run")) if has_return(line)]
    return sum(found[-number:]) / number


def has_return(line: dict[str, float]) -> bool:
    return "eval/episode_return" in line


@pytest.mark.parametrize("num_envs", [1, 4])
def test_pendulum(num_envs: int) -> None:
    arguments = ("env=Pendulum", f"env.num_envs={num_envs}", "seed=1", "threads=1", "device=cpu")
    assert train(*arguments, "run_dir=run") == 0
    assert last_returns(3) > -200  # an untrained policy has about -1,200

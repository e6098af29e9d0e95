"""`--multirun` makes a run of each combination, in a directory of its own."""

from __future__ import annotations

import re
from pathlib import Path

from running import TINY, lines, train

from trainers.config import load_config

SMALL = (*[argument for argument in TINY if argument != "env=Pendulum"], "total_frames=50")


def test_seeds_and_environments(tmp_path: Path) -> None:
    assert train("--multirun", *SMALL, "seed=0,1", "env=Pendulum,InvertedPendulum") == 0
    found = sorted(path.parent for path in tmp_path.glob("runs/*/*/config.yaml"))
    names = [re.sub(r"\d{8}-\d{6}", "TIME", str(path.relative_to(tmp_path))) for path in found]
    assert names == [
        "runs/sac-InvertedPendulum/TIME-seed0",
        "runs/sac-InvertedPendulum/TIME-seed1",
        "runs/sac-Pendulum/TIME-seed0",
        "runs/sac-Pendulum/TIME-seed1",
    ]
    for run_dir in found:
        assert lines(run_dir)[-1]["frames"] == 50
        assert "eval/episode_return" in lines(run_dir)[-1]
        assert load_config(run_dir / "config.yaml").seed == int(run_dir.name[-1])
    returns = {lines(run_dir)[-1]["eval/episode_return"] for run_dir in found}
    assert len(returns) == 4
    # Hydra's own note of the sweep is the only other thing.
    assert {path.name for path in (tmp_path / "runs").iterdir()} - {"sweeps"} == {
        "sac-InvertedPendulum",
        "sac-Pendulum",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_each_of_them_is_the_run_that_would_have_been_made_alone(tmp_path: Path) -> None:
    assert train("--multirun", *SMALL, "env=Pendulum", "seed=5,6") == 0
    assert train(*SMALL, "env=Pendulum", "seed=6", "run_dir=alone") == 0
    (swept,) = tmp_path.glob("runs/sac-Pendulum/*seed6")
    assert untimed(swept) == untimed(tmp_path / "alone")


def untimed(run_dir: Path) -> list[dict[str, float]]:
    return [
        {k: v for k, v in line.items() if k != "seconds" and not k.startswith("time/")}
        for line in lines(run_dir)
    ]


def test_one_that_fails_does_not_end_the_others(tmp_path: Path) -> None:
    mine = ("plugins=[my_plugin]", "env=gym", "env.id=mine/Fragile-v0", "env.name=fragile")
    assert (
        train("--multirun", *SMALL, *mine, "env.kwargs.at=45", "env.kwargs.fault=raises,none") == 1
    )
    (failed,) = tmp_path.glob("runs/sac-fragile/*fault-raises")
    (other,) = tmp_path.glob("runs/sac-fragile/*fault-none")
    assert "the wheel came off" in (failed / "train.log").read_text()
    assert "eval/episode_return" in lines(other)[-1]

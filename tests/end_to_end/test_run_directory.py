"""A run's files and exit code are what users and scripts rely on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from running import TINY, assert_equal_runs, lines, names, script, train

from trainers.config import load_config
from trainers.saving.checkpoint import load

EVALUATION = ["eval/episode_return", "eval/episode_return_std", "eval/episode_length"]
ALWAYS = ["frames", "updates", "seconds", "time/frames_per_s", "time/updates_per_s"]
EPISODES = ["train/episode_return", "train/episode_length"]
UPDATES = [
    *("loss/actor", "loss/qvalue", "loss/alpha", "train/alpha", "train/entropy"),
    *("train/lr/actor", "train/lr/critic", "train/lr/alpha", "train/update_ratio"),
]
ROLLOUTS = ["train/reward", "train/done_rate", "train/action_norm", "train/observation_norm"]


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run by the script on HalfCheetah, in a directory of its own, nothing else in it."""
    cwd = tmp_path_factory.mktemp("cwd")
    process = script(*TINY, "env=HalfCheetah", "total_frames=100", "run_dir=null", cwd=cwd)
    process.args = cwd
    return process


def test_the_script_trains_and_ends_with_0(process: Any) -> None:
    assert process.returncode == 0, process.stderr
    assert process.stdout == ""
    assert re.search(r"^sac on HalfCheetah-v5, seed 0, frames 0 to 100, cpu", process.stderr)
    assert "ended at frame 100, update 60; metrics in runs/sac-HalfCheetah/" in process.stderr


def test_everything_is_in_the_run_directory(process: Any) -> None:
    cwd: Path = process.args
    (run_dir,) = cwd.glob("runs/sac-HalfCheetah/*")
    assert re.fullmatch(r"\d{8}-\d{6}-seed0", run_dir.name)
    assert sorted(path.name for path in run_dir.iterdir()) == [
        *("best", "checkpoints", "config.yaml", "metrics.jsonl", "train.log")
    ]
    outside = [path for path in cwd.rglob("*") if run_dir not in (path, *path.parents)]
    assert outside == [cwd / "runs", cwd / "runs" / "sac-HalfCheetah"]
    assert names(run_dir) == ["0000000100-0000000060", "0000000064-0000000024"]


def test_the_configuration_is_stored(finished: Path) -> None:
    config = load_config(finished / "config.yaml")
    assert config.total_frames == 160
    assert config.env.id == "Pendulum-v1"
    assert config.algo.to_dict()["lr"] == 1e-3  # the preset of this environment


def test_the_lines_of_metrics(finished: Path) -> None:
    written = lines(finished)
    assert [line["frames"] for line in written] == [50, 60, 100, 120, 150, 160]
    assert [line["updates"] for line in written] == [10, 20, 60, 80, 110, 120]
    assert [line["frames"] for line in written if EVALUATION[0] in line] == [60, 120, 160]
    for line in written:
        holds(line, [*ALWAYS, *ROLLOUTS, *UPDATES])
        if EVALUATION[0] in line:
            holds(line, EVALUATION)
            assert line["eval/episode_length"] == 25
    for line in (written[0], written[2]):  # an episode ends every 25 frames
        holds(line, EPISODES)
        assert line["train/episode_length"] == 25
        assert line["train/episode_return"] < 0
    seconds = [line["seconds"] for line in written]
    assert seconds == sorted(seconds)
    assert all(line["train/update_ratio"] == 1.0 for line in written)


def holds(line: dict[str, Any], keys: Sequence[str]) -> None:
    """They are there, and numbers."""
    assert {key: line.get(key) for key in keys if not isinstance(line.get(key), int | float)} == {}


def test_the_best_policy_is_kept(finished: Path) -> None:
    best = load(finished / "best")
    (line,) = [line for line in lines(finished) if line["frames"] == best["frames"]]
    returns = [line[EVALUATION[0]] for line in lines(finished) if EVALUATION[0] in line]
    assert best["eval/episode_return"] == line[EVALUATION[0]] == max(returns)
    assert all(torch.isfinite(tensor).all() for tensor in best["policy"].values())


def test_the_log_tells_when_and_what(finished: Path) -> None:
    log = (finished / "train.log").read_text()
    assert re.search(r"^\d{4}-\d\d-\d\d .* INFO sac on Pendulum-v1", log)
    assert "process_optim_batch  replay" in log  # the timetable
    assert f"metrics in {finished / 'metrics.jsonl'}\n" in log


def test_every_number_can_be_switched_off(tmp_path: Path) -> None:
    switches = ["episodes", "losses", "reward", "done_rate", "norms", "update_ratio", "lr"]
    off = [f"log.{name}=false" for name in switches]
    assert train(*TINY, *off, "run_dir=run", "total_frames=49", "checkpoint.best=false") == 0
    (line,) = lines(tmp_path / "run")
    assert set(line) == {*ALWAYS, *EVALUATION, "time/checkpoint_s"}
    assert not (tmp_path / "run" / "best").exists()


def test_the_gradient_norm_can_be_logged(tmp_path: Path) -> None:
    assert train(*TINY, "log.grad_norm=true", "run_dir=run", "total_frames=50") == 0
    assert lines(tmp_path / "run")[0]["train/grad_norm"] > 0


def test_intervals_of_0_leave_the_last_line_and_checkpoint(tmp_path: Path) -> None:
    off = ["log.interval=0", "eval.interval=0", "checkpoint.interval=0"]
    assert train(*TINY, *off, "run_dir=run", "total_frames=50") == 0
    (line,) = lines(tmp_path / "run")
    holds(line, [*ALWAYS, *EVALUATION, *UPDATES])
    assert line["frames"] == 50
    assert names(tmp_path / "run") == ["0000000050-0000000010"]


def test_a_run_may_end_before_its_warm_up(tmp_path: Path) -> None:
    assert train(*TINY, "run_dir=run", "total_frames=20") == 0
    (line,) = lines(tmp_path / "run")
    assert (line["frames"], line["updates"]) == (20, 0)
    holds(line, EVALUATION)


def test_max_seconds_ends_a_run_and_starts_anew_with_every_command(tmp_path: Path) -> None:
    before = 0
    for _ in range(2):
        long = ("run_dir=run", "resume=auto", "total_frames=1_000_000", "max_seconds=0.5")
        assert train(*TINY, *long) == 0
        last = lines(tmp_path / "run")[-1]
        assert before + 1 < last["frames"] < 1_000_000
        holds(last, EVALUATION)
        assert names(tmp_path / "run")[0].startswith(f"{last['frames']:010d}-")
        before = last["frames"]


def test_a_run_cut_short_by_max_seconds_goes_on_as_if_it_had_not_been(
    tmp_path: Path, finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    at_once = ("run_dir=run", "resume=auto", "max_seconds=1e-6")  # after one iteration
    for frame in (1, 2):
        assert train(*TINY, *at_once) == 0
        said = capfd.readouterr().err
        assert f"ended at frame {frame}, update 0 (max_seconds=1e-06); go on with: " in said
        assert [line["frames"] for line in lines(tmp_path / "run")] == [frame]
    assert train("resume=run") == 0
    assert_equal_runs(tmp_path / "run", finished)


def test_how_exactly_matrices_are_multiplied_is_up_to_each_run() -> None:
    short = (*TINY, "total_frames=60")
    try:
        assert train(*short, "run_dir=rough", "matmul_precision=medium") == 0
        assert torch.get_float32_matmul_precision() == "medium"
        assert train(*short, "run_dir=exact") == 0
        assert torch.get_float32_matmul_precision() == "highest"
    finally:
        torch.set_float32_matmul_precision("highest")

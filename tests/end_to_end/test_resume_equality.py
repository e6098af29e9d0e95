"""A run that was stopped and resumed, in a fresh process, is the run that was not: bit for bit."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import flat
from running import TINY, assert_equal_runs, forked, last_state, lines, names, script, train

from trainers.saving import checkpoint
from trainers.saving.segments import Rows

FOUR = ("env.num_envs=4", "algo.utd_ratio=10", "algo.init_random_frames=60", "total_frames=92")
ASYNC = ("env.num_envs=2", "env.backend=async", "algo.frames_per_batch=8")
TWICE = ("plugins=[my_plugin]", "hooks=[signal]")  # a hook of ours stops the run

Straight = Callable[..., Path]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, finished: Path) -> Straight:
    """Runs that were never stopped, made once for each set of arguments."""
    made: dict[tuple[str, ...], Path] = {(): finished}

    def run(*arguments: str) -> Path:
        if arguments not in made:
            made[arguments] = tmp_path_factory.mktemp("straight") / "run"
            assert train(*TINY, *arguments, f"run_dir={made[arguments]}") == 0
        return made[arguments]

    return run


def resume(*arguments: str) -> str:
    """Go on with `run` in a fresh process; what it says."""
    process = script("resume=run", *arguments)
    assert process.returncode == 0, process.stderr
    return process.stderr


@pytest.mark.parametrize(
    ("arguments", "stop_at", "stopped_at"),
    [
        ((), 107, 107),  # within an episode, a line, an interval
        (FOUR, 82, 84),
        (ASYNC, 100, 104),
    ],
    ids=["one environment", "four", "workers"],
)
def test_stop_at(
    arguments: tuple[str, ...], stop_at: int, stopped_at: int, straight: Straight
) -> None:
    assert train(*TINY, *arguments, "run_dir=run", f"stop_at={stop_at}") == 0
    assert lines(Path("run"))[-1]["frames"] == stopped_at
    state = last_state(Path("run"))
    assert state["clock"]["frames"] == stopped_at
    assert all(len(e["actions"]) > 0 for e in state["collector"]["open_episodes"])
    said = resume()
    assert f"frame {stopped_at}, update" in said
    assert "statistical" not in said
    assert_equal_runs(Path("run"), straight(*arguments))


def test_sigterm_between_updates_due(straight: Straight, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNAL", "SIGTERM")
    monkeypatch.setenv("UPDATE", "133")
    assert train(*TINY, *FOUR, *TWICE, "run_dir=run") == 75
    state = last_state(Path("run"))
    owed = 10 * (state["clock"]["frames"] - 60) - state["clock"]["updates"]
    assert (state["clock"]["frames"], owed) == (76, 27)
    assert state["rollout"] is not None
    resume("plugins=[my_plugin]", "hooks=[]")
    assert_equal_runs(Path("run"), straight(*FOUR))


@pytest.mark.parametrize(
    ("frame", "newest", "written"), [(30, "0000000000", 0), (110, "0000000064", 3)]
)
def test_kill_9(
    frame: int, newest: str, written: int, straight: Straight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNAL", "SIGKILL")
    monkeypatch.setenv("FRAME", str(frame))
    assert forked(*TINY, *TWICE, "run_dir=run") == -signal.SIGKILL
    assert names(Path("run"))[0].startswith(newest)
    assert Path("run/metrics.jsonl").exists() == (written > 0)
    if written:
        assert len(lines(Path("run"))) == written  # the last of them after the checkpoint
    assert train("resume=run", "plugins=[my_plugin]", "hooks=[]") == 0
    assert_equal_runs(Path("run"), straight())


def test_many_stops(straight: Straight) -> None:
    for stop_at in range(20, 160, 30):
        auto = ("resume=auto", "run_dir=run", f"stop_at={stop_at}")
        assert train(*(TINY if stop_at == 20 else ()), *auto) == 0
        assert lines(Path("run"))[-1]["frames"] == stop_at
    assert train("resume=run") == 0
    assert_equal_runs(Path("run"), straight())


def test_a_run_with_hooks_and_an_own_environment(straight: Straight) -> None:
    mine = ("plugins=[my_plugin]", "hooks=[count]", "env=gym", "env.id=mine/Fragile-v0")
    mine += ("env.max_episode_steps=null", "algo.loss_module=my_loss", "algo.critic=my_critic")
    assert train(*TINY, *mine, "run_dir=run", "stop_at=70") == 0
    assert train("resume=run", "plugins=[my_plugin]") == 0
    assert lines(Path("run"))[-1]["train/iterations"] == 160
    assert_equal_runs(Path("run"), straight(*mine))


@pytest.mark.parametrize("backend", ["sync", "async"])
@pytest.mark.parametrize("reports", ["always", "end"])
def test_goals_and_successes(backend: str, reports: str, straight: Straight) -> None:
    goals = ("env=gym", "env.id=tests/Goal-v0", f"env.kwargs.reports={reports}")
    goals += ("env.num_envs=2", f"env.backend={backend}", "env.max_episode_steps=null")
    assert train(*TINY, *goals, "run_dir=run", "stop_at=107") == 0
    assert train("resume=run") == 0
    last = lines(Path("run"))[-1]
    assert 0 <= last["train/success_rate"] <= 1
    assert last["eval/success_rate"] in (0.0, 0.5, 1.0)
    assert_equal_runs(Path("run"), straight(*goals))


@pytest.mark.parametrize(
    "mine",
    [
        ("plugins=[my_plugin]", "hooks=[decay]"),
        ("algo.lr_schedule=linear", "algo.utd_ratio=0.1", "log.interval=5"),
    ],
    ids=["torch's scheduler", "linear, few updates"],
)
def test_learning_rates_that_change(mine: tuple[str, ...], straight: Straight) -> None:
    assert train(*TINY, *mine, "run_dir=run", "stop_at=103") == 0
    assert train("resume=run", *mine[:1]) == 0
    assert_equal_runs(Path("run"), straight(*mine))


def test_the_comparison_sees_a_difference(tmp_path: Path, finished: Path) -> None:
    def edited(change: Callable[[dict[str, Any]], None]) -> Path:
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(finished, copy)
        newest = copy / "checkpoints" / names(copy)[0]
        state = checkpoint.load(newest)
        frames = state["hooks"]["replay"]["frames"]  # few enough for one piece
        tables = state["hooks"]["replay"]["frames"] = frames.tables()
        change(state)
        state["hooks"]["replay"]["frames"] = Rows(frames.first, frames.end, lambda *_: tables)
        shutil.rmtree(newest)
        checkpoint.save(newest, state)
        return copy

    def nudge(path: str) -> Callable[[dict[str, Any]], None]:
        def change(state: dict[str, Any]) -> None:
            (tensor,) = [v for k, v in flat(state).items() if k.endswith(path)]
            tensor.view(-1)[0] = torch.nextafter(tensor.view(-1)[0], torch.tensor(9.0))

        return change

    assert_equal_runs(edited(lambda state: None), finished)
    for path in ("/frames/observation", "/optimizers/0/state/0/exp_avg", "/loss/log_alpha"):
        with pytest.raises(AssertionError, match=path):
            assert_equal_runs(edited(nudge(path)), finished)

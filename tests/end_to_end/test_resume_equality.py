"""A run that was stopped, signalled or killed, and resumed, is the run that was not: bit for bit.

Of every algorithm in the registry, and of its forms in `all_runs.py`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from all_runs import RUNS
from running import assert_equal_runs, forked, last_state, lines, names, script, train
from support.algorithms import ALL, command

from trainers.config import load_config
from trainers.trainer import Trainer

RUN = Path("run")
MINE = ("plugins=[my_plugin]", "hooks=[signal]")
GO_ON = ("resume=run", "plugins=[my_plugin]", "hooks=[]")
# The others are slow: in-process tests stop every form. A new process has to import torch first.
FORMS_NOW = ("sac, four environments", "dqn, overlapping", "ddpg, workers", "ppo, workers")
PROCESSES_NOW = ("ppo", "sac, four environments")
SIGNALS_NOW = ("ppo", "reinforce", "redq", "sac, four environments", "td3, four wandering")

Patch = pytest.MonkeyPatch
Straight = Callable[..., Path]

every_algorithm = pytest.mark.parametrize("name", ALL)


def now(*names: str) -> list[Any]:
    """All runs; but for these they are slow tests."""
    return [pytest.param(name, marks=() if name in names else pytest.mark.slow) for name in RUNS]


@pytest.mark.parametrize("name", now(*ALL, *FORMS_NOW))
def test_stop_at(name: str, straight: Straight) -> None:
    """Within an episode, a line and an interval; on-policy within an iteration, which goes on."""
    assert train(*RUNS[name], "run_dir=run", "stop_at=83") == 0
    stopped_at = lines(RUN)[-1]["frames"]
    state = last_state(RUN)
    assert 83 <= state["clock"]["frames"] == stopped_at < lines(straight(*RUNS[name]))[-1]["frames"]
    if "env=Pendulum" in RUNS[name]:  # where no episode ends there
        assert all(len(each["actions"]) > 0 for each in state["collector"]["open_episodes"])
    assert train("resume=run") == 0
    assert_equal_runs(RUN, straight(*RUNS[name]))


@pytest.mark.parametrize("name", now(*PROCESSES_NOW))
def test_a_process_of_its_own(name: str, straight: Straight) -> None:
    """It has nothing of the stopped run but the run's directory."""
    assert train(*RUNS[name], "run_dir=run", "stop_at=83") == 0
    stopped_at = lines(RUN)[-1]["frames"]
    process = script("resume=run")
    assert process.returncode == 0, process.stderr
    assert f"frame {stopped_at}, update" in process.stderr
    assert "statistical" not in process.stderr
    assert_equal_runs(RUN, straight(*RUNS[name]))


@pytest.mark.parametrize("name", now(*SIGNALS_NOW))
def test_sigterm(name: str, straight: Straight, monkeypatch: Patch) -> None:
    """Between two updates that are due; on-policy in an iteration, which is finished first."""
    update = round(0.42 * lines(straight(*RUNS[name]))[-1]["updates"])
    monkeypatch.setenv("SIGNAL", "SIGTERM")
    monkeypatch.setenv("UPDATE", str(update))
    assert train(*RUNS[name], *MINE, "run_dir=run") == 75
    state, algo = last_state(RUN), load_config(RUN / "config.yaml").algo
    if algo.on_policy:
        owed = 0
        assert state["clock"]["updates"] >= update
        assert state["clock"]["updates_in_epoch"] == 0
    else:
        due = int(algo.utd_ratio * (state["clock"]["frames"] - algo.init_random_frames))
        owed = due - update
        assert state["clock"]["updates"] == update
        assert owed > 0 or algo.utd_ratio <= 1
    assert (state["rollout"] is not None) == (owed > 0)
    assert train(*GO_ON) == 0
    assert_equal_runs(RUN, straight(*RUNS[name]))


@every_algorithm
def test_kill_9(name: str, straight: Straight, monkeypatch: Patch) -> None:
    """With frames behind the last checkpoint, off-policy lines as well."""
    monkeypatch.setenv("SIGNAL", "SIGKILL")
    monkeypatch.setenv("FRAME", "128")
    assert forked(*command(name), *MINE, "run_dir=run") == -signal.SIGKILL
    assert names(RUN)[0].startswith("0000000064")
    assert lines(RUN)[-1]["frames"] >= 64
    assert train(*GO_ON) == 0
    assert_equal_runs(RUN, straight(*command(name)))


def test_kill_9_before_anything_was_learnt(straight: Straight, monkeypatch: Patch) -> None:
    monkeypatch.setenv("SIGNAL", "SIGKILL")
    monkeypatch.setenv("FRAME", "30")
    assert forked(*command("sac"), *MINE, "run_dir=run") == -signal.SIGKILL
    assert names(RUN) == ["0000000000-0000000000"]
    assert not Path("run/metrics.jsonl").exists()
    assert train(*GO_ON) == 0
    assert_equal_runs(RUN, straight(*command("sac")))


def test_an_end_that_was_not_saved_is_none(straight: Straight, monkeypatch: Patch) -> None:
    """Stopped between the last updates, and killed before those that were left were saved."""
    arguments = (*RUNS["sac, four environments"], "eval.interval=46")
    monkeypatch.setenv("SIGNAL", "SIGTERM")
    monkeypatch.setenv("UPDATE", "310")
    assert train(*arguments, *MINE, "run_dir=run") == 75
    assert names(RUN)[0] == "0000000092-0000000310"

    def kill(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    assert forked(*GO_ON, before=lambda: setattr(Trainer, "save", kill)) == -signal.SIGKILL
    assert (lines(RUN)[-1]["frames"], lines(RUN)[-1]["updates"]) == (92, 320)
    assert "eval/episode_return" in lines(RUN)[-1]
    assert train(*GO_ON) == 0
    assert names(RUN)[0] == "0000000092-0000000320"
    assert_equal_runs(RUN, straight(*arguments))


def test_many_stops(straight: Straight) -> None:
    for stop_at in range(20, 160, 30):
        auto = ("resume=auto", "run_dir=run", f"stop_at={stop_at}")
        assert train(*(command("sac") if stop_at == 20 else ()), *auto) == 0
        assert lines(RUN)[-1]["frames"] == stop_at
    assert train("resume=run") == 0
    assert_equal_runs(RUN, straight(*command("sac")))

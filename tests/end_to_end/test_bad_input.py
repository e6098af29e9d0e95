"""Input that is wrong while the run is running: nothing learns from it, and it is not the end."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from running import TINY, last_state, lines, names, parameters, seen_trainer, train
from support.algorithms import ALL, ON_POLICY, command, task_of
from support.states import assert_same

from trainers.reporting.runs import read
from trainers.saving import checkpoint

RUN = Path("run")
MINE = ("plugins=[my_plugin]", "hooks=[spy]")
ANYWHERE = (
    *(*MINE, "run_dir=run", "env=gym", "env.max_episode_steps=null", "eval.interval=0"),
    *("checkpoint.interval=1", "total_frames=110"),
)
FRAGILE = (*TINY, *ANYWHERE, "env.id=mine/Fragile-v0")
FIXED = (
    "resume=run",
    *MINE,
    "env.kwargs.fault=''",
    "resume_override=true",
    "checkpoint.interval=0",
)

Capture = pytest.CaptureFixture[str]


def fault(kind: str, at: int) -> tuple[str, str]:
    return f"env.kwargs.fault='{kind}'", f"env.kwargs.at={at}"


def assert_resumable(frame: int) -> None:
    """Nothing was learnt after the checkpoint of `frame`; with a sound environment it goes on."""
    assert_nothing_learnt()
    assert last_state(RUN)["clock"]["frames"] == frame
    assert train(*FIXED) == 0
    assert lines(RUN)[-1]["frames"] == 110
    assert "eval/episode_return" in lines(RUN)[-1]


def assert_nothing_learnt() -> None:
    """The networks and optimizers are still those of the newest checkpoint."""
    now = {"phases": [phase.state_dict() for phase in seen_trainer().phases]}
    assert_same(parameters(now), parameters(last_state(RUN)))


@pytest.mark.parametrize(
    ("kind", "at", "message", "frame"),
    [
        ("nan", 53, r"observation\[1\] of environment 0 is nan at frame 53", 53),
        ("inf", 53, r"observation\[0\] of environment 0 is -inf at frame 53", 53),
        ("nan reward", 61, "reward of environment 0 is nan at frame 61", 61),
        ("nan reward", 11, "reward of environment 0 is nan at frame 11", 11),  # warm-up
        ("nan in reset", 14, r"observation\[1\] of environment 0 is nan at frame 53", 52),
        ("nan in reset", 1, r"observation\[1\] of environment 0 is nan at frame 1\b", 1),
    ],
)
def test_values_that_are_not_finite(
    kind: str, at: int, message: str, frame: int, capfd: Capture
) -> None:
    assert train(*FRAGILE, *fault(kind, at)) == 1
    said = capfd.readouterr().err
    assert re.search(f"^NonFiniteError: {message}", said, re.MULTILINE), said
    assert "Traceback" not in said
    assert len(said.splitlines()) <= 5
    log = (RUN / "train.log").read_text()
    assert "in _check_finite" in log
    evidence = assert_evidence(said, re.sub(r"\\", "", message).split(" at ")[0])
    assert not np.isfinite(evidence["reward" if "reward" in kind else "observation"]).all()
    assert evidence["environment"] == 0
    episode = evidence["episode"]
    assert len(episode["actions"]) == (0 if "reset" in kind else (at - 1) % 4 + 1)
    if len(episode["actions"]):
        assert torch.equal(torch.as_tensor(episode["actions"])[-1], evidence["written"]["action"])
    assert_resumable(frame - 1)


@pytest.mark.parametrize("name", ALL)
def test_every_algorithm_stops_there_and_goes_on(name: str, capfd: Capture) -> None:
    mine = "mine/Fragile-v0" if task_of(name) == "Pendulum-v1" else "mine/Choosy-v0"
    assert train(*command(name), *ANYWHERE, f"env.id={mine}", *fault("nan", 77)) == 1
    said = capfd.readouterr().err
    assert "observation[1] of environment 0 is nan at frame 77" in said
    assert_evidence(said, "observation[1] of environment 0 is nan")
    frame = 64 if name in ON_POLICY else 76
    assert last_state(RUN)["clock"]["frames"] == frame
    assert last_state(RUN)["clock"]["updates"] > 0
    assert_nothing_learnt()
    assert train(*FIXED) == 0
    assert lines(RUN)[-1]["frames"] >= 110
    assert "eval/episode_return" in lines(RUN)[-1]


def assert_evidence(said: str, what: str) -> dict[str, Any]:
    """What was not finite is kept, and told where."""
    (kept,) = (RUN / "non_finite").iterdir()
    assert f"what it was met in is kept in {kept}" in said
    state = checkpoint.load(kept)
    assert state["what"].startswith(what)
    return state["evidence"]


@pytest.mark.parametrize("backend", ["sync", "async"])
@pytest.mark.parametrize(
    ("kind", "at", "where", "what", "frame"),
    [
        ("raises", 26, "in step", "the wheel came off", 50),
        ("raises in reset", 14, "in reset", "the door is locked", 102),
    ],
)
def test_an_environment_that_raises(
    backend: str, kind: str, at: int, where: str, what: str, frame: int, capfd: Capture
) -> None:
    several = ("env.num_envs=2", f"env.backend={backend}")
    assert train(*FRAGILE, *several, *fault(kind, at)) == 1
    said = capfd.readouterr().err
    assert re.search(f"^RuntimeError: {what}", said, re.MULTILINE), said
    assert "Traceback" not in said
    assert f"ended at frame {frame}, " in said
    log = (RUN / "train.log").read_text()
    assert re.search(f'my_plugin.py", line \\d+, {where}', log)  # the environment's own traceback
    assert_resumable(frame)


def test_values_that_are_not_finite_in_a_worker(capfd: Capture) -> None:
    several = ("env.num_envs=2", "env.backend=async")
    assert train(*FRAGILE, *several, *fault("nan", 30)) == 1
    assert "observation[1] of environment 0 is nan at frame 60" in capfd.readouterr().err
    assert_resumable(58)


def test_workers_that_die_are_replaced(capfd: Capture) -> None:
    """Each of two workers dies in its 26th step, and so do those that take their places."""
    several = ("env.num_envs=2", "env.backend=async", *fault("dies", 26))
    assert train(*FRAGILE, *several) == 0
    said = capfd.readouterr().err
    for env in (0, 1):
        assert said.count(f"the worker of environment {env} died (exit code 7)") == 2
    assert "its episode counts as truncated; 6 restarts are left" in said
    frames = last_state(RUN)["hooks"]["replay"]["frames"].tables()
    cut = frames["next/truncated"].flatten()
    assert cut.sum() == 4
    assert torch.equal(frames["next/observation"][cut], frames["observation"][cut])
    assert not frames["next/reward"][cut].any()
    assert not frames["next/terminated"][cut].any()


def test_workers_that_die_too_often(capfd: Capture) -> None:
    several = ("env.num_envs=2", "env.backend=async", "env.worker_restarts=1", *fault("dies", 26))
    assert train(*FRAGILE, *several) == 1
    said = capfd.readouterr().err
    assert "the worker of environment 1 died (exit code 7); no restart is left" in said
    assert_nothing_learnt()
    assert last_state(RUN)["clock"]["frames"] == 50


def test_an_evaluation_that_raises(capfd: Capture) -> None:
    # An evaluation takes four steps: the 33rd belongs to the ninth, at frame 54. The two
    # environments of the training have not made 33 steps by then.
    mine = ("env.num_envs=2", "eval.episodes=1", "eval.interval=6", *fault("raises", 33))
    assert train(*FRAGILE, *mine) == 1
    said = capfd.readouterr().err
    assert "RuntimeError: the wheel came off" in said
    assert "ended at frame 54, update 14" in said
    assert last_state(RUN)["clock"]["frames"] == 52
    run = read(RUN)
    problem = "it ended with an error: RuntimeError: the wheel came off"
    assert (run.state, list(run.problems)) == ("failed", [problem])
    assert train(*FIXED) == 0
    assert (read(RUN).state, list(read(RUN).problems)) == ("finished", [])


def test_a_loss_that_is_nan(monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    monkeypatch.setenv("NAN_AT", "25")
    mine = ("algo.loss_module=my_loss", "checkpoint.interval=1", "total_frames=80")
    assert train(*TINY, *MINE, *mine, "run_dir=run") == 1
    said = capfd.readouterr().err
    assert "NonFiniteError: loss_qvalue is nan at update 25, frame 65" in said
    assert "Traceback" not in said
    evidence = assert_evidence(said, "loss_qvalue is nan")
    assert evidence["batch"]["observation"].shape == (16, 3)
    assert evidence["losses"]["loss_qvalue"].isnan()
    assert names(RUN)[0] == "0000000064-0000000024"
    assert_nothing_learnt()
    monkeypatch.delenv("NAN_AT")
    assert train("resume=run", *MINE) == 0
    assert lines(RUN)[-1]["frames"] == 80

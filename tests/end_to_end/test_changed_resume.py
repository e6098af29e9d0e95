"""Resumes that change what a run is made of: they go on, and tell what is not as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from all_runs import ALONE, CARTPOLE, OVERLAPPING, PRIORITIZED, WANDERING
from running import last_state, lines, train
from support.algorithms import command

RUN = Path("run")

TWO = ("env.num_envs=2", "stop_at=64", "run_dir=run")
RUNS = {
    "sac": command("sac"),
    "ddpg, overlapping, wandering": (*command("ddpg"), *OVERLAPPING, *WANDERING),
    "dqn, prioritized n steps": (*command("dqn"), *PRIORITIZED),
    "ppo": (*command("ppo"), "algo.frames_per_batch=30"),
    "ppo, overlapping": (
        *(*command("ppo"), *CARTPOLE, *OVERLAPPING, "algo.frames_per_batch=30"),
        "algo.value_estimator=vtrace",
    ),
    "reinforce, no baseline": (*command("reinforce"), *ALONE, "algo.frames_per_batch=30"),
}


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("arguments", RUNS.values(), ids=RUNS)
def test_another_number_of_environments(
    arguments: tuple[str, ...], num_envs: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert train(*arguments, *TWO) == 0
    changed = ("resume=run", f"env.num_envs={num_envs}", "resume_override=true", "stop_at=110")
    assert train(*changed) == 0
    told = f"environments: statistical, env.num_envs was 2 and is {num_envs}: every open episode"
    assert told in capfd.readouterr().err
    exploration = last_state(RUN)["collector"]["exploration"]
    assert exploration is None or len(exploration) == num_envs
    assert train("resume=run") == 0
    assert "statistical" not in capfd.readouterr().err
    assert lines(RUN)[-1]["frames"] >= 160


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("algo.prioritized=false", "algo.prioritized=true", "frames had no priorities"),
        ("algo.prioritized=true", "algo.prioritized=false", "without their priorities"),
        ("algo.n_steps=1", "algo.n_steps=3", "order in time was not kept"),
    ],
)
def test_a_replay_of_another_kind(
    before: str, after: str, told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert train(*command("sac"), before, *TWO) == 0
    assert train("resume=run", after, "resume_override=true", "stop_at=110") == 0
    said = capfd.readouterr().err
    (line,) = [line for line in said.splitlines() if line.startswith("hook replay: statistical")]
    assert told in line
    (exact,) = [line for line in said.splitlines() if line.startswith("restored bit for bit")]
    assert "replay" not in exact
    assert train("resume=run") == 0
    assert "statistical" not in capfd.readouterr().err
    assert lines(RUN)[-1]["frames"] == 160

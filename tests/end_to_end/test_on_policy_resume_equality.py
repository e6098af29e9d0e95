"""An on-policy run that was stopped and resumed, in a fresh process, is the run that was not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from running import (
    TINY_A2C,
    TINY_PPO,
    TINY_REINFORCE,
    assert_equal_runs,
    last_state,
    lines,
    script,
    train,
)

RUN = Path("run")
CARTPOLE = ("env=gym", "env.id=CartPole-v1")
FOUR = ("env.num_envs=4", "env.stagger=false")
ASYNC = ("env.num_envs=2", "env.backend=async")
KL = (*TINY_PPO, "algo.loss=kl", "algo.shared_trunk=true", "algo.normalize_observation=false")
ALONE = (*TINY_REINFORCE, "algo.baseline=false")
RUNS = {
    "ppo, continuous": TINY_PPO,
    "ppo, four environments": (*TINY_PPO, *FOUR),
    "ppo, workers": (*TINY_PPO, *ASYNC),
    "ppo, discrete": (*TINY_PPO, *CARTPOLE),
    "ppo, kl": KL,
    "ppo, functional, all that anneals": (
        *(*TINY_PPO, "algo.functional=true", "algo.clip_schedule=linear", "algo.clip_value=true"),
        *("algo.target_kl=0.01", "algo.num_epochs=5", "env.num_envs=4"),
    ),
    "a2c": (*TINY_A2C, *FOUR),
    "a2c, discrete, adam": (*TINY_A2C, *CARTPOLE, "algo.optimizer=adam"),
    "a2c, overlapping, v-trace": (
        *(*TINY_A2C, "env.num_envs=2", "collector.async=true", "algo.value_estimator=vtrace"),
    ),
    "reinforce": TINY_REINFORCE,
    "reinforce, no baseline": (*ALONE, "env.num_envs=2"),
    "reinforce, no baseline, discrete": (*ALONE, *CARTPOLE, "algo.normalize_advantage=true"),
}
runs = pytest.mark.parametrize("arguments", RUNS.values(), ids=RUNS)

Straight = Callable[[tuple[str, ...]], Path]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Straight:
    """Runs that were never stopped, made once for each set of arguments."""
    made: dict[tuple[str, ...], Path] = {}

    def run(arguments: tuple[str, ...]) -> Path:
        if arguments not in made:
            made[arguments] = tmp_path_factory.mktemp("straight") / "run"
            assert train(*arguments, f"run_dir={made[arguments]}") == 0
        return made[arguments]

    return run


@runs
def test_stop_at(arguments: tuple[str, ...], straight: Straight) -> None:
    """The stop lies within an iteration, which goes on to its end."""
    assert train(*arguments, "run_dir=run", "stop_at=70") == 0
    assert lines(RUN)[-1]["frames"] == 96
    state = last_state(RUN)
    assert any(len(e["actions"]) > 0 for e in state["collector"]["open_episodes"])
    process = script("resume=run")
    assert process.returncode == 0, process.stderr
    assert "frame 96, update" in process.stderr
    assert "statistical" not in process.stderr
    assert_equal_runs(RUN, straight(arguments))


@runs
def test_sigterm(
    arguments: tuple[str, ...], straight: Straight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within an iteration: it is finished first."""
    monkeypatch.setenv("SIGNAL", "SIGTERM")
    if "algo=ppo" in arguments:
        monkeypatch.setenv("UPDATE", "14")
    else:
        monkeypatch.setenv("FRAME", "64")
    mine = ("plugins=[my_plugin]", "hooks=[signal]")
    assert train(*arguments, *mine, "run_dir=run") == 75
    state = last_state(RUN)
    assert state["clock"]["frames"] in (64, 96)  # a target KL makes iterations of fewer updates
    assert state["clock"]["updates_in_epoch"] == 0
    assert state["rollout"] is None
    assert train("resume=run", "plugins=[my_plugin]", "hooks=[]") == 0
    assert_equal_runs(RUN, straight(arguments))


def test_beta_is_logged_and_goes_on(straight: Straight) -> None:
    betas = [line["train/beta"] for line in lines(straight(KL)) if "train/beta" in line]
    assert len(betas) >= 3
    assert len(set(betas)) > 1
    assert min(betas) > 0


def test_frames_of_open_episodes_are_part_of_a_checkpoint() -> None:
    """Two environments, sixteen steps each in a rollout, episodes of twenty-five."""
    arguments = (*ALONE, "env.num_envs=2", "env.stagger=false", "run_dir=run", "stop_at=32")
    assert train(*arguments) == 0
    kept = last_state(RUN)["hooks"]["whole_episodes"]["open"]
    assert [each["batch_size"] for each in kept] == [[16], [16]]
    assert last_state(RUN)["clock"]["updates"] == 0

"""A run of TD3 or DDPG that was stopped and resumed is the run that was not: bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from running import TINY, assert_equal_runs, last_state, script, train

RUN = Path("run")
FOUR = ("env.num_envs=4", "algo.utd_ratio=10", "algo.init_random_frames=60", "total_frames=92")
WANDERING = ("algo.noise=ornstein_uhlenbeck", "algo.noise_dt=1", "algo.exploration_noise=0.3")
RUNS = {
    "td3": ("algo=td3",),
    "td3, delayed by three, all that anneals": (
        *("algo=td3", "algo.policy_delay=3", "algo.target_update_interval=4", "algo.num_critics=3"),
        *("algo.lr_schedule=linear", "algo.prioritized=true", "algo.n_steps=3"),
        "algo.max_grad_norm=0.1",
    ),
    "td3, torchrl's": ("algo=td3", "algo.loss_module=torchrl"),
    "td3, four wandering": ("algo=td3", *FOUR, *WANDERING),
    "ddpg": ("algo=ddpg",),
    "ddpg, workers": (
        "algo=ddpg",
        "env.num_envs=2",
        "env.backend=async",
        "algo.frames_per_batch=8",
    ),
    "ddpg, overlapping": ("algo=ddpg", "collector.async=true", *WANDERING),
    "ddpg, torchrl's": ("algo=ddpg", "algo.loss_module=torchrl"),
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
            assert train(*TINY, *arguments, f"run_dir={made[arguments]}") == 0
        return made[arguments]

    return run


@runs
def test_stop_at(arguments: tuple[str, ...], straight: Straight) -> None:
    """Within an episode, and between two steps of a delayed actor."""
    assert train(*TINY, *arguments, "run_dir=run", "stop_at=83") == 0
    state = last_state(RUN)
    assert all(len(e["actions"]) > 0 for e in state["collector"]["open_episodes"])
    assert train("resume=run") == 0
    assert_equal_runs(RUN, straight(arguments))


def test_a_fresh_process(straight: Straight) -> None:
    arguments = RUNS["td3, four wandering"]
    assert train(*TINY, *arguments, "run_dir=run", "stop_at=82") == 0
    process = script("resume=run")
    assert process.returncode == 0, process.stderr
    assert "frame 84, update" in process.stderr
    assert "statistical" not in process.stderr
    assert_equal_runs(RUN, straight(arguments))


@pytest.mark.parametrize("algo", ["td3", "ddpg"])
def test_sigterm_between_updates_due(
    algo: str, straight: Straight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNAL", "SIGTERM")
    monkeypatch.setenv("UPDATE", "133")
    arguments = (f"algo={algo}", *FOUR, *WANDERING)
    mine = ("plugins=[my_plugin]", "hooks=[signal]")
    assert train(*TINY, *arguments, *mine, "run_dir=run") == 75
    state = last_state(RUN)
    assert state["clock"]["updates"] == 133
    assert state["rollout"] is not None
    assert train("resume=run", "plugins=[my_plugin]", "hooks=[]") == 0
    assert_equal_runs(RUN, straight(arguments))


def test_the_noise_is_part_of_the_state(straight: Straight) -> None:
    arguments = ("algo=ddpg", "collector.async=true", *WANDERING)
    assert last_state(straight(arguments))["collector"]["exploration"].shape == (1, 1)

"""A run of DQN or C51 that was stopped and resumed, in a fresh process, is the run that was not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from running import TINY_C51, TINY_DQN, assert_equal_runs, lines, script, train

RUN = Path("run")
RUNS = {
    "as shipped": TINY_DQN,
    "four environments, hard targets": (
        *(*TINY_DQN, "env.num_envs=4", "algo.target_update=hard"),
        *("algo.target_update_interval=7", "algo.utd_ratio=2", "algo.lr_schedule=linear"),
    ),
    "duelling, prioritized n steps": (
        *(*TINY_DQN, "algo.duelling=true", "algo.prioritized=true", "algo.n_steps=3"),
        *("algo.frames_per_batch=4", "algo.buffer_size=60"),
    ),
    "overlapping": (*TINY_DQN, "collector.async=true"),
    "td_lambda": (*TINY_DQN, "algo.value_estimator=td_lambda", "algo.slice_length=4"),
    "torchrl's loss": (*TINY_DQN, "algo.loss_module=torchrl", "algo.prioritized=true"),
    "c51": TINY_C51,
    "c51, prioritized": (*TINY_C51, "algo.prioritized=true", "algo.reduction=none"),
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
    """Epsilon is still falling there."""
    assert train(*arguments, "run_dir=run", "stop_at=104") == 0
    assert train("resume=run") == 0
    told = [line["train/epsilon"] for line in lines(RUN)]
    expected = [max(0.05, 1 - 0.95 * line["frames"] / 128) for line in lines(RUN)]
    assert told == pytest.approx(expected)
    assert_equal_runs(RUN, straight(arguments))


def test_in_a_fresh_process(straight: Straight) -> None:
    assert train(*TINY_DQN, "run_dir=run", "stop_at=107") == 0
    process = script("resume=run")
    assert process.returncode == 0, process.stderr
    assert "frame 107, update" in process.stderr
    assert "statistical" not in process.stderr
    assert_equal_runs(RUN, straight(TINY_DQN))


def test_sigterm(straight: Straight, monkeypatch: pytest.MonkeyPatch) -> None:
    """With updates due."""
    monkeypatch.setenv("SIGNAL", "SIGTERM")
    monkeypatch.setenv("UPDATE", "133")
    four = RUNS["four environments, hard targets"]
    assert train(*four, "plugins=[my_plugin]", "hooks=[signal]", "run_dir=run") == 75
    assert train("resume=run", "plugins=[my_plugin]", "hooks=[]") == 0
    assert_equal_runs(RUN, straight(four))

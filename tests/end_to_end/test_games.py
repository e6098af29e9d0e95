"""Runs on a game: resumed, evaluated, exported; and those that cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from running import assert_equal_runs, last_state, lines, script, train

from trainers.policies.evaluate import main as evaluate
from trainers.policies.export import export
from trainers.policies.load import load_policy

pytest.importorskip("ale_py", reason="the extra atari is not installed")

RUN = Path("run")
SHORT = (
    *("env=Breakout", "env.max_episode_steps=30", "network.hidden=[8]", "total_frames=120"),
    *("log.interval=40", "eval.interval=60", "eval.episodes=1", "checkpoint.interval=64"),
    *("report.interval_s=0", "threads=1", "device=cpu"),
)
REPLAY = ("algo.batch_size=4", "algo.buffer_size=60", "algo.init_random_frames=20")
DQN = ("algo=dqn", *SHORT, *REPLAY, "algo.exploration_fraction=0.8")
RUNS = {
    "dqn": DQN,
    "two environments, prioritized n steps": (
        *(*DQN, "env.num_envs=2", "algo.prioritized=true", "algo.n_steps=3", "algo.duelling=true"),
        "algo.storage=memmap",
    ),
    "overlapping, slices": (
        *(*DQN, "collector.async=true", "algo.value_estimator=td_lambda", "algo.slice_length=2"),
        "env.atari.repeat_action_probability=0.25",
    ),
    "c51": ("algo=c51", *SHORT, *REPLAY, "algo.num_atoms=5"),
    "a2c": ("algo=a2c", *SHORT, "env.num_envs=2", "algo.frames_per_batch=16"),
    "reinforce": ("algo=reinforce", *SHORT, "env.num_envs=2", "algo.frames_per_batch=16"),
    "ppo": (
        *("algo=ppo", *SHORT, "env.num_envs=2", "algo.frames_per_batch=16"),
        *("algo.minibatch_size=8", "algo.num_epochs=2"),
    ),
}


QUICK = ("two environments, prioritized n steps", "ppo")


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(arguments, id=name, marks=[] if name in QUICK else pytest.mark.slow)
        for name, arguments in RUNS.items()
    ],
)
def test_a_resumed_run_is_the_straight_one(arguments: tuple[str, ...]) -> None:
    assert train(*arguments, "run_dir=straight") == 0
    assert train(*arguments, "run_dir=run", "stop_at=72") == 0
    assert train("resume=run") == 0
    assert_equal_runs(RUN, Path("straight"))
    (last,) = lines(RUN)[-1:]
    assert last["train/simulator_frames"] == 4 * last["frames"]


@pytest.mark.slow
def test_in_a_fresh_process() -> None:
    assert train(*DQN, "run_dir=straight") == 0
    assert train(*DQN, "run_dir=run", "stop_at=75") == 0
    process = script("resume=run")
    assert process.returncode == 0, process.stderr
    assert "statistical" not in process.stderr
    assert "the replay buffer takes 0.425 MB for 60 transitions in memory" in process.stderr
    assert_equal_runs(RUN, Path("straight"))


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of DQN that is over; its line of training is followed by that of its evaluation."""
    run_dir = tmp_path_factory.mktemp("played") / "run"
    assert train(*DQN, f"run_dir={run_dir}", "log.interval=120", "eval.interval=0") == 0
    return run_dir


def test_every_picture_is_saved_once(played: Path) -> None:
    replay = last_state(played)["hooks"]["replay"]
    assert "observation" not in "".join(replay["frames"].tables())
    pictures = replay["pictures"]["pictures"].tables()["picture"]
    assert (pictures.shape, pictures.dtype) == ((63, 84, 84), torch.uint8)


def test_lines_tell_of_whole_games(played: Path) -> None:
    """Games of thirty steps, however many lives were lost in them."""
    line, last = lines(played)
    assert line["train/episode_length"] == last["eval/episode_length"] == 30
    assert line["train/done_rate"] > 4.5 / 120  # of learning, which counts lives as well


def test_evaluated_and_exported(played: Path) -> None:
    assert evaluate([f"run_dir={played}", "episodes=2"]) == 0
    report = json.loads((played / "evaluation-best.json").read_text())
    assert report["lengths"] == [30, 30]
    loaded = load_policy(played, "best")
    Path("out").mkdir()
    document = export(loaded, "torch_export", Path("out"))
    loaded.envs.close()
    (inputs,) = document["inputs"]
    assert (inputs["shape"], inputs["dtype"]) == (["batch", 4, 84, 84], "uint8")
    assert (inputs["low"], inputs["high"]) == (0, 255)
    assert document["check"]["largest_difference"] == 0


# --------------------------------------------------------------------- what is refused


def refused(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert train(*arguments, "run_dir=run") == 2
    said = capfd.readouterr().err
    assert len(said.splitlines()) == 1, said
    assert list(Path().iterdir()) == []
    return said


FITTING = "algo=a2c or c51 or dqn or ppo or reinforce fits"


def test_algorithms_that_cannot_learn_it_name_those_that_can(
    capfd: pytest.CaptureFixture[str],
) -> None:
    said = refused(capfd, "env=Pong")
    assert f"sac needs a finite Box, ALE/Pong-v5 has Discrete(6): {FITTING}" in said
    said = refused(capfd, "algo=discrete_sac", "env=Pong")
    assert "discrete_sac needs vectors of numbers, ALE/Pong-v5 has pictures [4, 84, 84]" in said
    assert FITTING in said


def test_a_plain_environment_leads_to_the_game(capfd: pytest.CaptureFixture[str]) -> None:
    said = refused(capfd, "algo=dqn", "env=gym", "env.id=ALE/Pong-v5")
    assert "env=atari env.id=ALE/Pong-v5" in said


def test_a_buffer_that_does_not_fit(capfd: pytest.CaptureFixture[str]) -> None:
    said = refused(capfd, "algo=dqn", "env=Pong", "algo.buffer_size=1_000_000_000_000")
    assert "algo.buffer_size: got 1000000000000, expected at most" in said
    assert "it takes 7.08e+06 GB in memory, of which" in said


def test_normalised_pictures(capfd: pytest.CaptureFixture[str]) -> None:
    said = refused(capfd, "algo=ppo", "env=Pong", "algo.normalize_observation=true")
    assert "algo.normalize_observation: got true, expected false with pictures" in said

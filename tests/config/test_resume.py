"""Going on with a run: its configuration comes back, and only harmless changes pass."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stand_in import Runs

from trainers.config import EnvConfig, SACConfig, TrainConfig, load_config, save_config

Train = Callable[..., int]
START = [
    "env=Hopper",
    "run_dir=run",
    "seed=3",
    "algo.lr=2e-3",
    "network.hidden=[8]",
    "logger=wandb",
]


@pytest.fixture
def started(train: Train, runs: Runs) -> TrainConfig:
    """A run in `run/`, its checkpoints in place."""
    assert train(*START) == 0
    Path("run/checkpoints/000500").mkdir(parents=True)
    return runs.calls.pop()[0]


def _same_run(config: TrainConfig) -> TrainConfig:
    return replace(config, run_dir=None, resume=None, resume_override=False)


@pytest.mark.parametrize(
    "line",
    [
        "resume=run",
        "resume=run/",
        "resume=run run_dir=run",
        "resume=run/checkpoints/000500",
        "resume=auto run_dir=run",
        "resume=auto " + " ".join(START),
        "resume=run env=Hopper algo=sac seed=3",
    ],
)
def test_the_stored_configuration_comes_back(
    line: str,
    started: TrainConfig,
    train: Train,
    runs: Runs,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train(*line.split()) == 0
    ((config, run_dir, resume_from),) = runs.calls
    assert _same_run(config) == _same_run(started)
    assert run_dir == Path("run")
    assert resume_from == Path("run/checkpoints/000500" if "000500" in line else "run")
    assert capsys.readouterr().err == ""


def test_auto_starts_where_there_is_no_run(train: Train, runs: Runs) -> None:
    line = ["resume=auto", "preset=sac_Pendulum", *START]
    assert train(*line) == 0
    assert train(*line) == 0
    (first, _, fresh), (second, _, resumed) = runs.calls
    assert (fresh, resumed) == (None, Path("run"))
    assert first == second


def test_auto_starts_in_a_directory_without_a_run(train: Train, runs: Runs) -> None:
    Path("run").mkdir()
    assert train("resume=auto", "run_dir=run") == 0
    assert runs.calls[0][1:] == (Path("run"), None)


def test_an_early_stop_is_not_for_the_next_command(train: Train, runs: Runs) -> None:
    train("run_dir=run", "stop_at=100", "max_seconds=5")
    train("resume=run")
    assert (runs.calls[1][0].stop_at, runs.calls[1][0].max_seconds) == (None, None)


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ("stop_at=500", "stop_at: null -> 500"),
        ("log.interval=7", "log.interval: 1000 -> 7"),
        ("checkpoint.keep=5", "checkpoint.keep: 2 -> 5"),
        ("eval.episodes=1", "eval.episodes: 10 -> 1"),
        ("device=cpu", 'device: "auto" -> "cpu"'),
        ("threads=2", "threads: null -> 2"),
        ("progress=false", "progress: true -> false"),
        ("logger.wandb.name=x", 'logger.wandb.name: null -> "x"'),
        ("logger=none", 'logger.wandb.project: "trainers" -> null'),
        ("hooks=[mine]", 'hooks: [] -> ["mine"]'),
        ("total_frames=2_000_000", "total_frames: 1000000 -> 2000000"),
    ],
)
@pytest.mark.usefixtures("started")
def test_harmless_changes_pass_and_are_shown(
    change: str, note: str, train: Train, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("resume=run", change) == 0
    assert f"resume: {note}" in capsys.readouterr().err.splitlines()
    assert len(runs.calls) == 1


@pytest.mark.parametrize(
    ("change", "keys"),
    [
        ("algo.lr=1e-3", "algo.lr"),
        ("seed=4", "seed"),
        ("env=Ant", "env.id, env.name"),
        ("env.num_envs=2", "env.num_envs"),
        ("env.kwargs.a=1", "env.kwargs.a"),
        ("network.hidden=[16]", "network.hidden"),
        ("algo.lr_schedule=linear total_frames=5", "algo.lr_schedule, total_frames"),
    ],
)
@pytest.mark.usefixtures("started")
def test_changes_of_the_run_need_a_word(
    change: str, keys: str, train: Train, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("resume=run", *change.split()) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"train.py: {keys}: got ")
    assert "resume_override=true" in message
    assert not runs.calls
    assert train("resume=run", *change.split(), "resume_override=true") == 0
    assert f"resume: {keys.split(', ')[0]}: " in capsys.readouterr().err


def test_the_horizon_of_a_schedule_is_part_of_the_run(train: Train, runs: Runs) -> None:
    train("run_dir=run", "algo.lr_schedule=linear")
    assert train("resume=run", "total_frames=2_000_000") == 2
    assert train("resume=run", "total_frames=2_000_000", "resume_override=true") == 0
    assert runs.calls[-1][0].total_frames == 2_000_000


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("resume=run preset=sac_Ant", "preset: got"),
        ("resume=run run_dir=other", "a run goes on in place"),
        ("resume=run/checkpoints", "has no config.yaml"),
        ("resume=run/checkpoints/7", "no such directory"),
        ("resume=run algo.gama=1", "did you mean algo.gamma?"),
        ("resume=run algo.gamma=7", "algo.gamma: got 7"),
    ],
)
def test_a_wrong_resume_is_refused(
    line: str, said: str, train: Train, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(*line.split()) == 2
    assert said in capsys.readouterr().err
    assert not runs.calls


def test_stored_plugins_have_to_be_named_again(
    train: Train, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    train("run_dir=run", "plugins=[my.envs,other]", "hooks=[mine]")
    assert train("resume=run") == 2
    assert "plugins=[my.envs,other]" in capsys.readouterr().err
    assert train("resume=run", "plugins=[my.envs,other]") == 0
    assert capsys.readouterr().err == ""
    assert runs.calls[-1][0].plugins == ["my.envs", "other"]
    assert runs.calls[-1][0].hooks == ["mine"]


def _nasty_text(rng: random.Random) -> str:
    parts = [
        "${",
        "}",
        "\\",
        "'",
        '"',
        "oc.env:HOME",
        ",",
        "=",
        " ",
        "[",
        "#",
        "a",
        "ü",
        "\n",
        "??",
    ]
    return "".join(rng.choices(parts, k=rng.randint(1, 12)))


def test_stored_text_is_data(train: Train, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an override nor an interpolation comes out of a stored file."""
    monkeypatch.setenv("HOME", "leaked")
    rng = random.Random(0)
    texts = [
        *(
            "${oc.env:HOME}",
            "\\${oc.env:HOME}",
            "\\\\${oc.env:HOME}",
            "${seed}",
            "a,b",
            "x' seed=7",
        ),
        *(_nasty_text(rng) for _ in range(200)),
    ]
    kwargs: dict[str, Any] = {f"k{number}": text for number, text in enumerate(texts)} | {
        "a.b": 1,
        "c=d": [texts[0]],
    }
    env = EnvConfig(name="Hopper,Ant", id="${seed}", kwargs=kwargs)
    stored = TrainConfig(algo=SACConfig(), env=env, hooks=["${oc.env:HOME}"])
    Path("run").mkdir()
    save_config(stored, Path("run/config.yaml"))
    assert train("resume=run") == 0
    assert _same_run(runs.calls[0][0]) == stored


@pytest.mark.parametrize("extra", ["hydra: {run: {dir: evil}}", "defaults: [env: Ant]", "x: 1"])
@pytest.mark.usefixtures("started")
def test_a_stored_file_reaches_nothing_but_the_configuration(
    extra: str, train: Train, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("run/config.yaml", "a") as file:
        file.write(extra)
    assert train("resume=run") == 2
    assert re.search(r"config\.yaml: (hydra|defaults|x): got", capsys.readouterr().err)
    assert not runs.calls


@pytest.mark.usefixtures("started")
def test_the_resumed_configuration_can_be_shown(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--cfg", "job", "resume=run", "log.interval=7") == 0
    shown = capsys.readouterr().out
    assert "lr: 0.002" in shown
    assert "interval: 7" in shown


def test_a_run_can_be_resumed_twice(started: TrainConfig, train: Train) -> None:
    assert train("resume=run", "log.interval=7") == 0
    assert train("resume=run") == 0
    stored = load_config(Path("run/config.yaml"))
    assert _same_run(stored) == _same_run(replace(started, log=replace(started.log, interval=7)))

"""Going on with a run: its configuration comes back, and only harmless changes pass."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stand_in import Runs

from trainers.config import ConfigError, EnvConfig, SACConfig, TrainConfig, save_config
from trainers.config.cli import preflight
from trainers.config.run_dir import locate

Train = Callable[..., int]
START = [
    "env=Hopper",
    "run_dir=run",
    "seed=3",
    "algo.lr=2e-3",
    "network.hidden=[8]",
    "logger=wandb",
]


@pytest.fixture(scope="module")
def config() -> TrainConfig:
    """What `START` comes to."""
    return preflight(START).configs[0]


@pytest.fixture
def started(config: TrainConfig) -> TrainConfig:
    """The configuration of a run in `run/`, its checkpoints in place."""
    Path("run/checkpoints/000500").mkdir(parents=True)
    save_config(config, Path("run/config.yaml"))
    return config


def _resume(*arguments: str) -> tuple[TrainConfig, list[str]]:
    """The configuration that runs, and what is said about it."""
    plan = preflight(list(arguments))
    (resumed,) = plan.configs
    return resumed, plan.notes


def _same_run(config: TrainConfig) -> TrainConfig:
    return replace(config, run_dir=None, resume=None, resume_override=False)


@pytest.mark.parametrize(
    "line",
    [
        "resume=run/",
        "resume=run run_dir=run",
        "resume=auto run_dir=run",
        "resume=auto " + " ".join(START),
        "resume=run env=Hopper algo=sac seed=3",
        "resume=run preset=none",
        "resume=run ~preset",
        "resume=run env.id=Hopper-v5",
    ],
)
def test_the_stored_configuration_comes_back(line: str, started: TrainConfig) -> None:
    resumed, notes = _resume(*line.split())
    assert _same_run(resumed) == _same_run(started)
    assert notes == []
    assert locate(resumed.run_dir, resumed.resume) == (Path("run"), Path("run"))


def test_a_refused_value_of_the_stored_run_is_said_to_be_one(started: TrainConfig) -> None:
    algo = SACConfig(prioritized=True, priority_beta=0.5)
    save_config(replace(started, algo=algo), Path("run/config.yaml"))
    with pytest.raises(
        ConfigError, match=r"the stored run sets it: add algo\.priority_beta=\.\.\.$"
    ):
        _resume("resume=run", "algo.prioritized=false", "resume_override=true")


@pytest.mark.parametrize("source", ["run", "run/checkpoints/000500"])
def test_the_run_goes_on_in_place(
    source: str,
    started: TrainConfig,
    train: Train,
    runs: Runs,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train(f"resume={source}", "log.interval=7") == 0
    ((config, run_dir, resume_from),) = runs.calls
    assert (run_dir, resume_from) == (Path("run"), Path(source))
    assert capsys.readouterr().err == "resume: log.interval: 1000 -> 7\n"
    expected = replace(started, log=replace(started.log, interval=7))
    assert _same_run(config) == _same_run(expected)
    again, notes = _resume("resume=run")  # from what the resumed run stored
    assert (_same_run(again), notes) == (_same_run(expected), [])


def test_auto_starts_where_there_is_no_run(train: Train, runs: Runs) -> None:
    line = ["resume=auto", "preset=sac_Pendulum", *START]
    assert train(*line) == 0
    assert train(*line) == 0
    (first, _, fresh), (second, _, resumed) = runs.calls
    assert (fresh, resumed) == (None, Path("run"))
    assert first == second


def test_auto_starts_in_a_directory_without_a_run() -> None:
    Path("run").mkdir()
    assert locate("run", "auto") == (Path("run"), None)


def test_an_early_stop_is_not_for_the_next_command(started: TrainConfig) -> None:
    save_config(replace(started, stop_at=100, max_seconds=5.0), Path("run/config.yaml"))
    resumed, notes = _resume("resume=run")
    assert (resumed.stop_at, resumed.max_seconds, notes) == (None, None, [])


@pytest.mark.usefixtures("started")
def test_harmless_changes_pass_and_are_shown() -> None:
    changes = {
        "stop_at=500": "stop_at: null -> 500",
        "log.interval=7": "log.interval: 1000 -> 7",
        "checkpoint.keep=5": "checkpoint.keep: 2 -> 5",
        "eval.episodes=1": "eval.episodes: 10 -> 1",
        "device=cpu": 'device: "auto" -> "cpu"',
        "threads=2": "threads: null -> 2",
        "progress=false": "progress: true -> false",
        "logger.wandb.name=x": 'logger.wandb.name: null -> "x"',
        "logger.tensorboard=true": "logger.tensorboard: false -> true",
        "hooks=[mine]": 'hooks: [] -> ["mine"]',
        "total_frames=2_000_000": "total_frames: 1000000 -> 2000000",
    }
    resumed, notes = _resume("resume=run", *changes)
    assert set(notes) == set(changes.values())
    assert (resumed.stop_at, resumed.total_frames, resumed.log.interval) == (500, 2_000_000, 7)


@pytest.mark.usefixtures("started")
def test_a_logger_can_be_left_out() -> None:
    resumed, notes = _resume("resume=run", "logger=none")
    assert resumed.logger.wandb is None
    assert 'logger.wandb.project: "trainers" -> null' in notes


@pytest.mark.parametrize(
    ("change", "keys"),
    [
        ("algo.lr=1e-3", "algo.lr"),
        ("seed=4", "seed"),
        ("env=Ant", "env.id, env.name"),
        ("env.kwargs.a=1", "env.kwargs.a"),
        ("network.hidden=[16]", "network.hidden"),
        ("algo.lr_schedule=linear total_frames=5", "algo.lr_schedule, total_frames"),
    ],
)
@pytest.mark.usefixtures("started")
def test_changes_of_the_run_need_a_word(change: str, keys: str) -> None:
    with pytest.raises(ConfigError, match="resume_override=true") as caught:
        _resume("resume=run", *change.split())
    assert caught.value.key == keys
    _, notes = _resume("resume=run", *change.split(), "resume_override=true")
    assert ", ".join(note.partition(":")[0] for note in notes) == keys


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "algo.lr=1e-4",
            "algo.lr: got 0.0001, expected 0.002, which the run was started with; "
            "resume_override=true changes it",
        ),
        (
            "algo.lr=1e-4 env=Ant",
            'algo.lr, env.id, env.name: got "algo.lr=0.0001 env.id=Ant-v5 env.name=Ant", '
            "expected algo.lr=0.002 env.id=Hopper-v5 env.name=Hopper, which the run was started "
            "with; resume_override=true changes them",
        ),
    ],
)
@pytest.mark.usefixtures("started")
def test_what_would_change_is_said_in_plain_words(change: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _resume("resume=run", *change.split())
    assert str(caught.value) == said


def test_another_environment_than_the_file_s_is_resumed(started: TrainConfig) -> None:
    """Such runs were started once; whether env.id= fits env= is asked of new ones."""
    save_config(replace(started, env=replace(started.env, id="Ant-v5")), Path("run/config.yaml"))
    resumed, notes = _resume("resume=run")
    assert (resumed.env.id, resumed.env.name, notes) == ("Ant-v5", "Hopper", [])
    _, notes = _resume("resume=run", "env.id=Pusher-v5", "resume_override=true")
    assert notes == ['env.id: "Ant-v5" -> "Pusher-v5"']


def test_the_horizon_of_a_schedule_is_part_of_the_run(started: TrainConfig) -> None:
    scheduled = replace(started, algo=replace(started.algo, lr_schedule="linear"))
    save_config(scheduled, Path("run/config.yaml"))
    with pytest.raises(ConfigError, match=r"^total_frames: got"):
        _resume("resume=run", "total_frames=2_000_000")


@pytest.fixture
def started_ppo() -> TrainConfig:
    """The configuration of a run of PPO in `run/`, unlike its preset's."""
    line = ["algo=ppo", "env=Pendulum", "run_dir=run", "network.hidden=[8]", "algo.gamma=0.8"]
    (config,) = preflight([*line, "algo.loss=kl", "algo.frames_per_batch=64"]).configs
    Path("run").mkdir()
    save_config(config, Path("run/config.yaml"))
    return config


@pytest.mark.parametrize("line", ["resume=run", "resume=run algo=ppo", "resume=auto run_dir=run"])
def test_a_run_of_ppo_comes_back(line: str, started_ppo: TrainConfig) -> None:
    resumed, notes = _resume(*line.split())
    assert _same_run(resumed) == _same_run(started_ppo)
    assert notes == []


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("total_frames=300_000", "total_frames"),  # its learning rate falls over all of them
        ("algo.loss=clip", "algo.loss"),
        ("algo.entropy_coeff=0.5", "algo.entropy_coeff"),
        ("network.activation=relu", "network.activation"),
    ],
)
@pytest.mark.usefixtures("started_ppo")
def test_changes_of_a_run_of_ppo_need_a_word(change: str, key: str) -> None:
    with pytest.raises(ConfigError, match="resume_override=true") as caught:
        _resume("resume=run", change)
    assert caught.value.key == key
    _, notes = _resume("resume=run", change, "resume_override=true")
    assert [note.partition(":")[0] for note in notes] == [key]


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("resume=run preset=sac_Ant", "preset: got"),
        ("resume=run run_dir=other", "a run goes on in place"),
        ("resume=run/checkpoints", r"has no config\.yaml"),
        ("resume=run/checkpoints/7", "no such directory"),
        ("resume=run algo.gama=1", r"did you mean algo\.gamma\?"),
        ("resume=run algo.gamma=7", r"algo\.gamma: got 7"),
    ],
)
def test_a_wrong_resume_is_refused(line: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        _resume(*line.split())


def test_stored_plugins_have_to_be_named_again(started: TrainConfig) -> None:
    plugged = replace(started, plugins=["my.envs", "other"], hooks=["mine"])
    save_config(plugged, Path("run/config.yaml"))
    with pytest.raises(ConfigError, match=r"add plugins=\[my\.envs,other\]"):
        _resume("resume=run")
    resumed, notes = _resume("resume=run", "plugins=[my.envs,other]")
    assert (resumed.plugins, resumed.hooks, notes) == (["my.envs", "other"], ["mine"], [])


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
def test_a_stored_file_reaches_nothing_but_the_configuration(extra: str) -> None:
    with open("run/config.yaml", "a") as file:
        file.write(extra)
    with pytest.raises(ConfigError, match=r"config\.yaml: (hydra|defaults|x): got"):
        _resume("resume=run")


@pytest.mark.usefixtures("started")
def test_the_resumed_configuration_can_be_shown(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--cfg", "job", "resume=run", "log.interval=7") == 0
    shown = capsys.readouterr().out
    assert "lr: 0.002" in shown
    assert "interval: 7" in shown

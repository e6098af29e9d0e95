"""What right command lines come to: configurations, run directories, exit codes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from stand_in import Runs

from trainers.config import ConfigError, SACConfig, TrainConfig, load_config
from trainers.config import run_dir as run_dir_module
from trainers.config.cli import preflight

ROOT = Path(__file__).resolve().parents[2]

Train = Callable[..., int]


def _config(*arguments: str) -> TrainConfig:
    (config,) = preflight(list(arguments)).configs
    return config


def test_no_arguments_are_the_main_job(train: Train, runs: Runs) -> None:
    assert train() == 0
    ((config, run_dir, resume_from),) = runs.calls
    assert (config.algo.name, config.env.id, resume_from) == ("sac", "HalfCheetah-v5", None)
    assert re.fullmatch(r"runs/sac-HalfCheetah/\d{8}-\d{6}-seed0", str(run_dir))


def test_nothing_but_the_run_writes(train: Train) -> None:
    train("run_dir=here")
    assert [str(path) for path in Path().rglob("*")] == ["here", "here/config.yaml"]


def test_numbers_as_people_write_them() -> None:
    config = _config("total_frames=200_000", "algo.buffer_size=1e5", "algo.lr=3e-4", "stop_at=5e3")
    assert (config.total_frames, config.stop_at) == (200_000, 5_000)
    assert config.algo == SACConfig(buffer_size=100_000, lr=3e-4)


def test_free_form_keys_need_no_plus() -> None:
    config = _config("env.kwargs.a.b=[1,x]", "+env.kwargs.c=null", "++env.kwargs.d='1'")
    assert config.env.kwargs == {"a": {"b": [1, "x"]}, "c": None, "d": "1"}


def test_any_gymnasium_environment_is_named_by_its_id(train: Train, runs: Runs) -> None:
    assert train("env=gym", "env.id=ns/My Env-v0") == 0
    ((config, run_dir, _),) = runs.calls
    assert config.env.name == "ns/My Env-v0"
    assert run_dir.parent == Path("runs/sac-ns-My-Env-v0")


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("env.id=HalfCheetah-v4", "HalfCheetah"),
        ("env=Hopper ++env.id=Hopper", "Hopper"),  # Gymnasium takes its newest
        ("env=gym env.id=Hopper-v4", "Hopper-v4"),
        ("--multirun env.id=HalfCheetah-v4,HalfCheetah-v5", "HalfCheetah"),
    ],
)
def test_an_environment_s_file_takes_its_versions(line: str, name: str) -> None:
    assert {config.env.name for config in preflight(line.split()).configs} == {name}


@pytest.mark.parametrize("choice", ["wandb", "[wandb]", "[tensorboard,wandb]"])
def test_loggers_come_on_top(choice: str) -> None:
    assert _config().logger.wandb is None
    logger = _config(f"logger={choice}", "logger.wandb.tags=[a,b]").logger
    assert logger.wandb is not None
    assert (logger.wandb.project, logger.wandb.tags) == ("trainers", ["a", "b"])
    assert logger.tensorboard is ("tensorboard" in choice)


def test_a_directory_of_own_files_is_searched(tmp_path: Path) -> None:
    (tmp_path / "mine" / "env").mkdir(parents=True)
    (tmp_path / "mine" / "env" / "Mine.yaml").write_text("defaults: [gym]\nname: Mine\nid: Mine-v0")
    mine = ("--config-dir", str(tmp_path / "mine"), "env=Mine")
    assert _config(*mine).env.id == "Mine-v0"
    assert _config(*mine, "env.id=Mine-v1").env.id == "Mine-v1"
    with pytest.raises(ConfigError, match=r"of Mine with env=Mine; use env=gym env\.id=Other"):
        _config(*mine, "env.id=Other-v1")
    with pytest.raises(ConfigError, match=r"use env=Mine, or env=gym env\.id=Mine-v0"):
        _config(*mine[:2], "env.id=Mine-v0")


OF_PRESETS = {
    "algo=dqn env=CartPole algo.delay_value=false algo.double=false": "algo.tau: got 0.01",
    "algo=dqn env=CartPole algo.value_estimator=td_lambda algo.slice_length=8": "algo.n_steps: got",
    "algo=dqn env=Pong env.num_envs=8": "algo.frames_per_batch: got 4",
    "algo=reinforce env=Breakout algo.baseline=false": "algo.shared_trunk: got true",
    "algo=dqn preset=dqn_CartPole SLICES": "algo.n_steps: got 5",
    "-m algo=dqn env=CartPole seed=0,1 SLICES": "algo.n_steps: got 5",
}


@pytest.mark.parametrize("line", OF_PRESETS)
def test_a_refused_value_of_a_preset_is_said_to_be_one(line: str) -> None:
    words = line.replace("SLICES", "algo.value_estimator=td1 algo.slice_length=8").split()
    with pytest.raises(ConfigError) as caught:
        preflight(words)
    said = str(caught.value)
    assert said.startswith(OF_PRESETS[line])
    assert re.search(rf"; the preset \w+ sets it: add {caught.value.key}=\.\.\.$", said)


@pytest.mark.parametrize(
    "line",
    [
        "algo=dqn env=CartPole algo.double=false algo.delay_value=false algo.tau=0.3",  # typed
        "algo=dqn env=CartPole ~preset algo.n_steps=0",
        "algo=dqn env=CartPole algo.delay_value=false",  # double is so by default
        "env=gym env.id=Mine-v0 algo.delay_qvalue=false algo.tau=0.3",  # has no preset
        "totl_frames=10",
        "~env.id",
    ],
)
def test_no_preset_is_blamed_for_other_values(line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        preflight(line.split())
    assert "preset" not in str(caught.value)


@pytest.mark.parametrize("line", ["env=CartPole", "-m env=CartPole seed=0,1", "preset=none"])
def test_a_value_that_is_refused_late_is_said_to_be_the_preset_s(
    line: str, train: Train, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.outcomes = [ConfigError("algo.n_steps", 5, "1 here"), ConfigError("algo.lr", 5, "1 here")]
    assert train("algo=dqn", *line.split(), "algo.lr=1e-5") == 2
    late, *others = capsys.readouterr().err.splitlines()
    source = (
        "" if line == "preset=none" else "; the preset dqn_CartPole sets it: add algo.n_steps=..."
    )
    assert late == f"train.py: algo.n_steps: got 5, expected 1 here{source}"
    assert not [each for each in others if "preset" in each]


def test_without_arguments_there_is_a_preset_all_the_same(
    train: Train, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.outcomes = [ConfigError("total_frames", 100_000, "fewer")]
    assert train() == 2
    assert "the preset sac_HalfCheetah sets it" in capsys.readouterr().err


def test_interpolations_of_the_command_line_resolve() -> None:
    assert _config("run_dir='runs/mine-${seed}'", "seed=3").run_dir == "runs/mine-3"


@pytest.mark.parametrize("code", [1, 75])
def test_the_exit_code_is_the_run_s(code: int, train: Train, runs: Runs) -> None:
    runs.outcomes = [code]
    assert train() == code


def test_a_late_configuration_error_leaves_nothing(
    train: Train, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.outcomes = [ConfigError("env.id", "Foo-v1", "a known id", "did you mean Foo-v2?")]
    assert train("env=gym", "env.id=Foo-v1") == 2
    message = 'train.py: env.id: got "Foo-v1", expected a known id; did you mean Foo-v2?\n'
    assert capsys.readouterr().err == message
    assert not list(Path().iterdir())


def test_an_unexpected_error_keeps_its_traceback(
    train: Train, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.outcomes = [RuntimeError("boom")]
    assert train() == 1
    assert "Traceback" in (written := capsys.readouterr().err)
    assert written.rstrip().endswith("RuntimeError: boom")


def test_an_interrupt_while_starting_is_told_in_a_line(
    train: Train, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.outcomes = [KeyboardInterrupt()]
    assert train() == 130
    assert capsys.readouterr().err == "train.py: SIGINT: ended, nothing was saved\n"
    assert not list(Path().iterdir())


@pytest.fixture
def _one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run starts at the same time."""

    class Clock(run_dir_module.datetime):
        @classmethod
        def now(cls, tz: object = None) -> Clock:
            return cls(2025, 1, 2, 3, 4, 5)

    monkeypatch.setattr(run_dir_module, "datetime", Clock)


@pytest.mark.usefixtures("_one_second")
def test_runs_that_start_in_the_same_second_have_their_own_directories(
    train: Train, runs: Runs
) -> None:
    train()
    train()
    names = [run_dir.name for _, run_dir, _ in runs.calls]
    assert names == ["20250102-030405-seed0", "20250102-030405-seed0-2"]


@pytest.mark.usefixtures("_one_second")
def test_a_sweep_has_a_run_for_each_combination(train: Train, runs: Runs) -> None:
    assert train("seed=0,1", "--multirun", "env=Hopper,Pendulum", "algo.lr=2e-3,4e-3") == 0
    stamp = "20250102-030405"
    assert [(str(run_dir), config.total_frames) for config, run_dir, _ in runs.calls] == [
        (f"runs/sac-{env}/{stamp}-seed{seed}-algo.lr-{lr}", frames)
        for seed in (0, 1)
        for env, frames in (("Hopper", 1_000_000), ("Pendulum", 20_000))
        for lr in (0.002, 0.004)
    ]
    for config, run_dir, _ in runs.calls:
        assert load_config(run_dir / "config.yaml") == config
        assert "=" not in str(run_dir)  # so that it can be given back: resume=RUN_DIR


@pytest.mark.usefixtures("_one_second")
def test_jobs_that_differ_in_a_file_only_have_their_own_directories(
    train: Train, runs: Runs
) -> None:
    assert train("-m", "logger=none,wandb") == 0
    assert len({run_dir for _, run_dir, _ in runs.calls}) == 2


def test_a_sweep_keeps_to_the_runs_folder(train: Train) -> None:
    train("-m", "seed=range(0,2)")
    assert [path.name for path in Path().iterdir()] == ["runs"]
    assert [path.name for path in Path("runs/sweeps").glob("*/*")] == ["multirun.yaml"]


def test_a_sweep_may_name_its_directories(train: Train, runs: Runs) -> None:
    assert train("-m", "seed=0,1", "run_dir='mine-${seed}'") == 0
    assert [str(run_dir) for _, run_dir, _ in runs.calls] == ["mine-0", "mine-1"]


@pytest.mark.parametrize("outcome", [1, RuntimeError("boom"), ConfigError("a", 1, "b")])
def test_a_sweep_goes_on_after_a_failed_job(
    outcome: int | BaseException, train: Train, runs: Runs
) -> None:
    runs.outcomes = [outcome]
    expected = outcome if isinstance(outcome, int) else 2 if isinstance(outcome, ConfigError) else 1
    assert train("-m", "seed=0,1") == expected
    assert len(runs.calls) == 2


def test_a_signal_ends_a_sweep(train: Train, runs: Runs) -> None:
    runs.outcomes = [0, 75]
    assert train("-m", "seed=0,1,2") == 75
    assert len(runs.calls) == 2


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("--help", "train.py resume="),
        ("--help env=Hopper", "Hopper-v5"),
        ("--cfg job algo.lr=5e-4", "lr: 0.0005"),
        ("--cfg job --package algo.lr", "0.001"),
        ("--cfg hydra", "output_subdir: null"),
        ("--hydra-help", "--multirun"),
    ],
)
def test_the_options_of_hydra_work(
    line: str, shown: str, train: Train, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(*line.split()) == 0
    assert shown in capsys.readouterr().out
    assert not runs.calls
    assert not list(Path().iterdir())


def test_the_script_runs(script: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    process = script("env=Hopper", "run_dir=here")
    assert (process.returncode, process.stdout) == (0, "ran here\n")
    assert process.stderr == "no torch\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("line", ["--help", "--cfg job", "totl_frames=10"])
def test_nobody_need_read_to_the_end(line: str, unbuffered: str) -> None:
    read, write = os.pipe()
    os.close(read)  # as of a head that has seen enough
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *line.split()]
    err = write if "=" in line else subprocess.PIPE
    process = subprocess.run(command, stdout=write, stderr=err, env=environment, timeout=60)
    os.close(write)
    assert (process.returncode, process.stderr or b"") == (1, b"")


def test_a_run_directory_is_one_process_s_at_a_time(tmp_path: Path) -> None:
    place, config = tmp_path / "mine", _config()
    with (
        run_dir_module.claimed(place, config, ""),
        pytest.raises(ConfigError, match=r"run_dir.*another process is training in it"),
        run_dir_module.claimed(place, config, ""),
    ):
        pass
    with run_dir_module.claimed(place, config, ""):
        assert place.is_dir()


@pytest.mark.parametrize(
    "line",
    ["logger=tensorboard", "logger=[wandb,tensorboard]", "-m seed=0,1 logger=tensorboard"],
)
def test_a_logger_whose_package_is_missing_is_refused(
    line: str,
    train: Callable[..., int],
    runs: Runs,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # as if it were not installed
    assert train(*line.split()) == 2
    said = capsys.readouterr().err
    assert 'logger: got "tensorboard", expected a logger whose package is installed' in said
    assert "trainers[tensorboard]" in said
    assert not runs.calls
    assert not list(Path().iterdir())
    assert train("logger=wandb") == 0


@pytest.mark.parametrize("line", ["", "-m seed=0,1"])
def test_envpool_is_refused_where_it_is_missing(
    line: str,
    train: Callable[..., int],
    runs: Runs,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "envpool", None)  # as if it were not installed
    assert train(*line.split(), "env.backend=envpool") == 2
    said = capsys.readouterr().err
    assert 'env.backend: got "envpool", expected a backend that is installed' in said
    assert "'.[envpool]'" in said
    assert not runs.calls
    assert not list(Path().iterdir())
    assert train("env.backend=async") == 0

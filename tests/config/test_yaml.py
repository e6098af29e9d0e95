"""`configs/` says what the dataclasses say: the same keys, the same values, each with a comment."""

from __future__ import annotations

from dataclasses import MISSING, fields
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from trainers.config import (
    AlgoConfig,
    AtariConfig,
    EnvConfig,
    LoggerConfig,
    NetworkConfig,
    SACConfig,
    TrainConfig,
    WandbConfig,
    sections,
)
from trainers.config.cli import preflight
from trainers.config.composer import CONFIG_DIR
from trainers.config.schema import Section

NUMBERS = {  # of frames, where a preset of SAC does not say the usual million
    "HalfCheetah": 100_000,
    "InvertedPendulum": 50_000,
    "LunarLanderContinuous": 500_000,
    "MountainCarContinuous": 50_000,
    "Pendulum": 20_000,
    "Pusher": 500_000,
    "Reacher": 200_000,
}


PRESETS = sorted(CONFIG_DIR.glob("preset/*_*.yaml"))  # and none.yaml


@pytest.fixture(autouse=True)
def _every_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here asks for more than the words."""
    monkeypatch.setattr(sections, "find_spec", lambda name: "there")


def _read(name: str) -> dict[str, Any]:
    """A file by itself, numbers read the way Hydra reads them."""
    text = OmegaConf.load(CONFIG_DIR / name)
    return OmegaConf.to_container(text)


def _defaults(section: type) -> dict[str, Any]:
    values = {}
    for spec in fields(section):
        made = spec.default if spec.default_factory is MISSING else spec.default_factory()
        values[spec.name.rstrip("_")] = made.to_dict() if isinstance(made, Section) else made
    return values


def test_train_yaml_agrees_with_the_dataclasses() -> None:
    values = _read("train.yaml")
    del values["defaults"], values["hydra"]
    expected = _defaults(TrainConfig)
    for group in ("algo", "env", "logger"):  # files of their own
        del expected[group]
    assert values == expected


@pytest.mark.parametrize("name", AlgoConfig.known)
def test_algorithm_files_agree_with_the_dataclasses(name: str) -> None:
    assert _read(f"algo/{name}.yaml") == _defaults(AlgoConfig.known[name])


def test_every_algorithm_has_a_file_and_a_dataclass() -> None:
    assert {path.stem for path in (CONFIG_DIR / "algo").iterdir()} == set(AlgoConfig.known)
    assert AlgoConfig.known["sac"] is SACConfig


def test_the_environment_file_agrees_with_the_dataclass() -> None:
    values, expected = _read("env/gym.yaml"), _defaults(EnvConfig)
    assert values.keys() == expected.keys()
    for required in ("name", "id"):
        del values[required], expected[required]
    assert values == expected


def test_the_file_of_games_agrees_with_the_dataclass() -> None:
    assert _read("env/atari.yaml")["atari"] == _defaults(AtariConfig)


def test_logger_files_agree_with_the_dataclasses() -> None:
    assert _read("logger/none.yaml") == {}
    assert _read("logger/wandb.yaml") == {"wandb": _defaults(WandbConfig)}
    assert _read("logger/tensorboard.yaml") == {"tensorboard": True}
    assert {spec.name for spec in fields(LoggerConfig)} == {"tensorboard", "wandb"}


@pytest.mark.parametrize("path", sorted(CONFIG_DIR.glob("env/[A-Z]*.yaml")), ids=lambda p: p.stem)
def test_every_environment_has_its_preset(path: Path) -> None:
    (config,) = preflight([f"env={path.stem}"]).configs
    assert config.env.name == path.stem
    assert config.env.id.removeprefix("ALE/").rpartition("-v")[0] in path.stem
    assert config.total_frames == NUMBERS.get(path.stem, 1_000_000)
    assert list((CONFIG_DIR / "preset").glob(f"*_{path.stem}.yaml"))


def test_every_preset_belongs_to_an_algorithm_and_an_environment() -> None:
    for path in PRESETS:
        algo, _, env = path.stem.rpartition("_")
        assert (CONFIG_DIR / "algo" / f"{algo}.yaml").is_file()
        assert (CONFIG_DIR / "env" / f"{env}.yaml").is_file()


def test_the_gymnasium_ids_exist() -> None:
    import gymnasium as gym

    ids = {yaml.safe_load(path.read_text())["id"] for path in CONFIG_DIR.glob("env/[A-Z]*.yaml")}
    if find_spec("ale_py"):
        gym.register_envs(import_module("ale_py"))
    else:
        ids = {each for each in ids if not each.startswith("ALE/")}
    assert ids <= set(gym.registry)


def test_the_command_line_wins_over_the_preset() -> None:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        assert compose("train", overrides=["env=Pendulum"]).algo.init_random_frames == 1_000
    (config,) = preflight(["env=Pendulum", "total_frames=7"]).configs
    assert (config.total_frames, config.algo) == (7, SACConfig(lr=1e-3, init_random_frames=1_000))
    for without in ("~preset", "preset=none"):
        (config,) = preflight(["env=Pendulum", without]).configs
        assert (config.total_frames, config.algo) == (1_000_000, SACConfig())


def test_an_algorithm_brings_the_networks_it_is_used_to() -> None:
    small, large = NetworkConfig(hidden=[64, 64], activation="tanh"), NetworkConfig()
    for line, expected in [("algo=ppo", small), ("algo=sac", large), ("", large)]:
        assert preflight(line.split()).configs[0].network == expected
    (config,) = preflight(["algo=ppo", "env=Pendulum", "network.hidden=[8]"]).configs
    assert config.network == NetworkConfig(hidden=[8], activation="tanh")
    jobs = preflight(["--multirun", "algo=ppo,sac"]).configs
    assert [job.network for job in jobs] == [small, large]


@pytest.mark.parametrize("path", PRESETS, ids=lambda p: p.stem)
def test_every_preset_is_found_and_loses_to_the_command_line(path: Path) -> None:
    algo, env = path.stem.rsplit("_", 1)
    line = [f"algo={algo}", f"env={env}"] + ["env.id=ALE/Pong-v5"] * (env == "atari")
    preset = _read(f"preset/{path.name}")
    (config,) = preflight(line).configs
    assert config.total_frames == preset.get("total_frames", 1_000_000)
    for key, value in preset.get("algo", {}).items():
        assert getattr(config.algo, key) == value
    (config,) = preflight([*line, "total_frames=7", "algo.lr=5e-4"]).configs
    assert (config.total_frames, config.algo.lr) == (7, 5e-4)
    (config,) = preflight([*line, "~preset"]).configs
    assert (config.total_frames, config.algo) == (1_000_000, AlgoConfig.known[algo]())

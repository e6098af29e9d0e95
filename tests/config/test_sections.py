"""The dataclasses by themselves: made in Python, written to a file and read back."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from trainers.config import (
    ConfigError,
    DDPGConfig,
    DQNConfig,
    EnvConfig,
    LoggerConfig,
    NetworkConfig,
    PPOConfig,
    ReinforceConfig,
    SACConfig,
    TD3Config,
    TrainConfig,
    WandbConfig,
    load_config,
    save_config,
)

PENDULUM = EnvConfig(name="Pendulum", id="Pendulum-v1")


def test_a_configuration_is_made_without_hydra() -> None:
    config = TrainConfig(algo=SACConfig(), env=PENDULUM)
    assert config.total_frames == 1_000_000
    assert config.network.hidden == [256, 256]


def test_defaults_are_not_shared_between_configurations() -> None:
    assert NetworkConfig().hidden is not NetworkConfig().hidden


@pytest.mark.parametrize(
    ("given", "stored"), [(1e6, 1_000_000), (1_000, 1_000), (256.0, 256), (2**62, 2**62)]
)
def test_integral_floats_are_integers(given: Any, stored: int) -> None:
    frames = TrainConfig(algo=SACConfig(), env=PENDULUM, total_frames=given).total_frames
    assert frames == stored
    assert type(frames) is int


def test_an_integer_is_a_float_where_one_is_wanted() -> None:
    assert type(SACConfig(utd_ratio=1).utd_ratio) is float


@pytest.mark.parametrize(
    "value", [True, "256", 0, -1, 1.5, None, float("nan"), float("inf"), 10**400, 2**63, [256]]
)
def test_a_wrong_integer_is_refused_by_its_dotted_key(value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        SACConfig(batch_size=value)
    assert caught.value.key == "algo.batch_size"
    assert caught.value.allowed == "a whole number at least 1"


@pytest.mark.parametrize("value", [0, 1, 0.5])
def test_closed_bounds_belong_to_the_range(value: float) -> None:
    assert SACConfig(gamma=value).gamma == value


@pytest.mark.parametrize(("key", "value"), [("tau", 0), ("lr", 0), ("tau", 1.01), ("gamma", -0.1)])
def test_numbers_outside_their_range_are_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"algo.{key}: got {value}, expected a number"):
        SACConfig(**{key: value})


def test_what_would_do_nothing_may_be_said_as_it_is_by_default() -> None:
    assert DQNConfig(double=False, delay_value=False, tau=0.005).tau == 0.005
    assert TD3Config(delay_actor=False, tau=0.1, noise_theta=0.15).tau == 0.1  # of the critics
    assert PPOConfig(loss="kl", clip_epsilon=0.2, beta=2).beta == 2
    assert DDPGConfig(noise_theta=1).noise_theta == 1
    assert ReinforceConfig(baseline=False, gae_lambda=0.95).gae_lambda == 0.95
    assert ReinforceConfig(gae_lambda=0.5, value_estimator="gae").gae_lambda == 0.5
    assert PPOConfig(gae_lambda=0.5, value_estimator="td0").gae_lambda == 0.5  # presets have one
    assert SACConfig(lmbda=0.95, priority_beta_end=1).lmbda == 0.95


def test_target_entropy_is_a_word_or_a_number() -> None:
    assert SACConfig(target_entropy=-3).target_entropy == -3.0
    with pytest.raises(ConfigError, match=r"auto or a number; did you mean auto\?"):
        SACConfig(target_entropy="aut")


def test_free_form_data_has_to_be_plain() -> None:
    assert EnvConfig(name="a", id="b", kwargs={"c": [1, {"d": None}]}).kwargs["c"][1] == {"d": None}
    for wrong in ({"f": print}, {1: 2}, {"f": [object()]}, [1]):
        with pytest.raises(ConfigError, match=r"env\.kwargs"):
            EnvConfig(name="a", id="b", kwargs=wrong)


def test_an_error_reads_the_same_after_a_pickle() -> None:
    error = ConfigError("env.id", "Foo-v1", "a known id", "did you mean Foo-v2?")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def _unusual() -> TrainConfig:
    env = EnvConfig(
        name="a b", id="ns/X-v1", num_envs=4, kwargs={"x.y": [None, True, 1e-5, "null", "1e3", "ü"]}
    )
    algo = SACConfig(target_entropy=-1.5, frames_per_batch=8, lr=1e-5, lr_schedule="linear")
    logger = LoggerConfig(wandb=WandbConfig(tags=["a", "b"]))
    return TrainConfig(algo=algo, env=env, logger=logger, plugins=["my.plugin"], stop_at=10)


@pytest.mark.parametrize("config", [TrainConfig(algo=SACConfig(), env=PENDULUM), _unusual()])
def test_a_configuration_survives_the_file(config: TrainConfig, tmp_path: Path) -> None:
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1",
        "just text",
        "algo: {name: sac}",
        "algo: !!python/object/apply:os.mkdir [ran]",
        "\x00",
    ],
)
def test_a_damaged_file_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError):
        load_config(tmp_path / "config.yaml")
    assert not Path("ran").exists()
    with pytest.raises(ConfigError, match=r"missing\.yaml"):
        load_config(tmp_path / "missing.yaml")


def test_an_invalid_file_is_named_with_its_key(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    save_config(TrainConfig(algo=SACConfig(), env=PENDULUM), path)
    path.write_text(path.read_text().replace("gamma: 0.99", "gamma: 99"))
    with pytest.raises(ConfigError, match=r"config\.yaml: algo\.gamma: got 99"):
        load_config(path)

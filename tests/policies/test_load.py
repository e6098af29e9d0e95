"""A policy comes back from the run directory it was left in."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from support.algorithms import ALL, task_of, tiny, tiny_dqn, tiny_ppo, tiny_reinforce, tiny_sac
from support.environments import env_config, register_spaces
from support.runs import likeliest, some_observations, trained

from trainers.config import ConfigError, EnvConfig, NetworkConfig, TrainConfig, save_config
from trainers.policies.load import load_policy
from trainers.saving import checkpoint

BOX = gym.spaces.Box(-np.inf, np.inf, (3,))
DISCRETE = register_spaces("PoliciesDiscrete", BOX, gym.spaces.Discrete(4))
LIKE_PENDULUM = register_spaces("LikePendulum", BOX, gym.spaces.Box(-2.0, 2.0, (1,)))


def discrete() -> EnvConfig:
    return env_config(DISCRETE)


def shipped(name: str) -> TrainConfig:
    """In an environment of three observations."""
    return tiny(name, None if task_of(name) == "Pendulum-v1" else discrete())


KINDS: dict[str, Any] = {
    **{name: partial(shipped, name) for name in ALL},
    "sac, no numpy": lambda: tiny_sac(network=NetworkConfig(hidden=[8], activation="silu")),
    "sac, torchrl's loss": lambda: tiny_sac(algo={"loss_module": "torchrl"}),
    "sac, own bounds": lambda: tiny_sac(env=env_config("Pendulum-v1", rescale_actions=False)),
    "dqn, duelling": lambda: tiny_dqn(env=discrete(), algo={"duelling": True}),
    "dqn, no numpy": lambda: tiny_dqn(
        env=discrete(), network=NetworkConfig(hidden=[8], activation="silu")
    ),
    "dqn, torchrl's loss": lambda: tiny_dqn(env=discrete(), algo={"loss_module": "torchrl"}),
    "reinforce, no baseline": lambda: tiny_reinforce(algo={"baseline": False}),
    "ppo, no norm": lambda: tiny_ppo(algo={"normalize_observation": False}),
    "ppo, functional": lambda: tiny_ppo(algo={"functional": True, "loss_module": "torchrl"}),
    "ppo, predicted deviation": lambda: tiny_ppo(algo={"predict_std": True}),
    "ppo, shared trunk": lambda: tiny_ppo(algo={"shared_trunk": True}),
    "ppo, discrete": lambda: tiny_ppo(env=discrete()),
    "ppo, several environments": lambda: tiny_ppo(
        env=env_config("Pendulum-v1", num_envs=2, backend="async")
    ),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of SAC; not to be written to."""
    run_dir = tmp_path_factory.mktemp("sac") / "run"
    trained(tiny_sac(), run_dir)
    return run_dir


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run, tmp_path / "copy")


@pytest.mark.parametrize("kind", KINDS)
def test_the_policy_is_the_one_that_was_trained(kind: str, tmp_path: Path) -> None:
    config = KINDS[kind]()
    original = trained(config, tmp_path / "run")
    observations = some_observations(3)
    expected = likeliest(original.policy, observations)
    for which in ("best", "latest"):  # the end of the run is the only evaluation of it
        loaded = load_policy(tmp_path / "run", which)
        loaded.envs.close()
        np.testing.assert_array_equal(likeliest(loaded.policy, observations), expected)
        assert loaded.frames == config.total_frames
        assert loaded.config == config
        assert loaded.envs.num_envs == 1


def test_best_and_latest_are_told_apart(copied: Path) -> None:
    state = checkpoint.load(copied / "best")
    shutil.rmtree(copied / "best")
    zeros = {name: torch.zeros_like(value) for name, value in state["policy"].items()}
    checkpoint.save(copied / "best", {"policy": zeros, "frames": 7})
    best, latest = load_policy(copied, "best"), load_policy(copied, "latest")
    observations = some_observations(3)
    assert (likeliest(best.policy, observations) == 0).all()
    assert (likeliest(latest.policy, observations) != 0).all()
    assert (best.frames, latest.frames) == (7, 40)
    assert (best.source, latest.source.parent) == (copied / "best", copied / "checkpoints")


def _damage(directory: Path) -> None:
    with (directory / "tensors.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))


def test_the_newest_intact_checkpoint_counts(copied: Path) -> None:
    (newest,) = (copied / "checkpoints").iterdir()
    later = shutil.copytree(newest, newest.with_name("0000000099-0000000099"))
    _damage(later)
    assert load_policy(copied, "latest").source == newest
    _damage(newest)
    with pytest.raises(ConfigError, match="expected a run with an intact checkpoint"):
        load_policy(copied, "latest")


def test_a_damaged_best_policy_is_refused(copied: Path) -> None:
    _damage(copied / "best")
    with pytest.raises(ConfigError, match="is damaged: it does not match its manifest") as caught:
        load_policy(copied, "best")
    assert "\n" not in str(caught.value)


def _reconfigure(run_dir: Path, config: TrainConfig) -> None:
    save_config(config, run_dir / "config.yaml")


@pytest.mark.parametrize("which", ["best", "latest"])
@pytest.mark.parametrize(
    "other",
    [
        lambda: tiny_sac(network=NetworkConfig(hidden=[9])),
        lambda: tiny_sac(network=NetworkConfig(hidden=[8, 8])),
        lambda: tiny_sac(env=env_config("MountainCarContinuous-v0")),
        tiny_ppo,
    ],
)
def test_weights_of_other_networks_are_refused(which: Any, other: Any, copied: Path) -> None:
    _reconfigure(copied, other())
    with pytest.raises(
        ConfigError, match=r"weights of the networks and environment in config\.yaml"
    ) as caught:
        load_policy(copied, which)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("which", ["best", "latest"])
@pytest.mark.parametrize(
    ("other", "named"),
    [
        (lambda: tiny_sac(env=env_config(LIKE_PENDULUM)), f"sac on {LIKE_PENDULUM}"),
        (lambda: tiny("redq", algo={"num_critics": 2}), "redq on Pendulum-v1"),
    ],
)
def test_weights_of_another_run_are_refused_though_they_fit(
    which: Any, other: Any, named: str, copied: Path
) -> None:
    _reconfigure(copied, other())
    with pytest.raises(ConfigError) as caught:
        load_policy(copied, which)
    assert str(caught.value).endswith(f"; it is of sac on Pendulum-v1, config.yaml of {named}")


def test_weights_that_do_not_say_whose_they_are_are_taken(copied: Path) -> None:
    (newest,) = (copied / "checkpoints").iterdir()
    best, latest = checkpoint.load(copied / "best"), checkpoint.load(newest)
    del best["about"], latest["hooks"]["evaluation"]["about"]
    for path, state in ((copied / "best", best), (newest, latest)):
        checkpoint.save(path.with_name("old"), state)
        shutil.rmtree(path)
        path.with_name("old").rename(path)
    _reconfigure(copied, tiny_sac(env=env_config(LIKE_PENDULUM)))
    assert [load_policy(copied, which).frames for which in ("best", "latest")] == [40, 40]


def test_what_is_no_run_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run_dir: .*; it has no config\.yaml"):
        load_policy(tmp_path, "best")
    with pytest.raises(ConfigError, match=r"run_dir: .*; there is no such directory"):
        load_policy(tmp_path / "nowhere", "best")
    shutil.copy(run / "config.yaml", tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ConfigError, match="expected a run that has saved a policy"):
        load_policy(tmp_path, "latest")
    (tmp_path / "config.yaml").write_text("algo: {")
    with pytest.raises(ConfigError, match=r"config\.yaml: got null, expected a readable config"):
        load_policy(tmp_path, "latest")


@pytest.mark.parametrize(
    ("missing", "left"), [("best", "latest"), ("latest", "best")], ids=["best", "latest"]
)
def test_what_there_is_is_named(missing: Any, left: str, copied: Path) -> None:
    shutil.rmtree(copied / {"best": "best", "latest": "checkpoints"}[missing])
    with pytest.raises(ConfigError, match=f'which: got "{missing}", expected {left}; there is'):
        load_policy(copied, missing)


def test_an_environment_that_is_gone_is_named(copied: Path) -> None:
    _reconfigure(copied, tiny_sac(env=env_config("Pendulun-v1")))
    with pytest.raises(ConfigError, match=r"env\.id: .* did you mean Pendulum-v1\?"):
        load_policy(copied, "best")


def test_stored_plugins_are_not_imported(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stored_plugin.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    _reconfigure(copied, replace(tiny_sac(), plugins=["stored_plugin", "gone"], hooks=["its"]))
    with pytest.raises(ConfigError, match=r"add plugins=\[stored_plugin,gone\]"):
        load_policy(copied, "best")
    assert "stored_plugin" not in sys.modules
    # What is given is imported, and nothing else; the hooks of a run are not asked for.
    assert load_policy(copied, "best", ["stored_plugin"]).frames == 40
    del sys.modules["stored_plugin"]

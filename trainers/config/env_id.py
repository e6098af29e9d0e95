"""Is there such an environment? Asked before torch is loaded, so a typo is answered at once."""

from __future__ import annotations

import importlib
import os
from importlib.util import find_spec

from trainers.config.errors import ConfigError, did_you_mean
from trainers.config.sections import EnvConfig


def check_env_id(config: EnvConfig) -> None:
    """Raise `ConfigError` unless Gymnasium knows `config.id`; plugins must be loaded before."""
    _check_mujoco_gl()
    import gymnasium as gym

    if config.is_game:
        config.check_installed()
        ale_py = importlib.import_module("ale_py")
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # else it says who it is
        gym.register_envs(ale_py)
    try:
        gym.spec(config.id)
    except (gym.error.Error, ImportError) as error:
        known = config.id in gym.registry
        near = None if known else did_you_mean(config.id, gym.registry)
        raise ConfigError(
            "env.id",
            config.id,
            "a registered Gymnasium environment (plugins may add some)",
            near or str(error).splitlines()[0],
        ) from error


def _check_mujoco_gl() -> None:
    """Raise `ConfigError` if MuJoCo, which torchrl imports, does not load with this `MUJOCO_GL`."""
    given = os.environ.get("MUJOCO_GL")
    if given is None or find_spec("mujoco") is None:
        return
    try:
        importlib.import_module("mujoco")
    except Exception as error:  # whatever an OpenGL that is not there leads to
        hint = f"is its library installed? {type(error).__name__}: {error}"
        raise ConfigError("MUJOCO_GL", given, "a renderer that is there", hint) from error

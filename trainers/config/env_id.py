"""Is there such an environment? Asked before torch is loaded, so a typo is answered at once."""

from __future__ import annotations

from trainers.config.errors import ConfigError, did_you_mean
from trainers.config.sections import EnvConfig


def check_env_id(config: EnvConfig) -> None:
    """Raise `ConfigError` unless Gymnasium knows `config.id`; plugins must be loaded before."""
    import gymnasium as gym

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

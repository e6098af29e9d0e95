"""Environments stepped by EnvPool, whose physics and threads are C++."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

from trainers.config import ConfigError, EnvConfig
from trainers.environments.single import make_env

NEVER = 2**31 - 1  # the latest step that EnvPool can count to


class EnvPoolEnvs:
    """What :class:`~trainers.environments.envs.Envs` needs of a vector of environments, by EnvPool.

    EnvPool has ways of its own, which end here:

    - It takes seeds when environments are made, and at no other time. So the first reset makes
      them, with its seeds; those of later ones are ignored, and no episode can be replayed.
    - Left alone, a finished environment is reset by its next step, whatever the action. One that is
      reset at once, as collectors do, never takes such a step.
    - A termination in the last step that the limit allows would be called a truncation alone. So
      EnvPool knows no limit, and the time is looked at here.

    Args:
        config: which environment; no more than `EnvConfig.check` lets pass.
        num_envs: how many.

    Raises:
        ConfigError: EnvPool is not installed, or a plugin put an environment of its own under an id
            that EnvPool has.
    """

    def __init__(self, config: EnvConfig, num_envs: int) -> None:
        config.check_installed()
        import envpool  # type: ignore  # an extra

        env = make_env(config)  # its spaces are narrower than EnvPool's, and make the same policy
        env.close()
        self.single_observation_space = env.observation_space
        self.single_action_space = env.action_space
        spec = gym.spec(config.id)
        if not str(spec.entry_point).startswith("gymnasium."):
            raise ConfigError(
                "env.id",
                config.id,
                "Gymnasium's own environment with env.backend=envpool",
                f"a plugin made it {spec.entry_point}, which EnvPool does not have",
            )
        self._limit = config.max_episode_steps or spec.max_episode_steps or NEVER
        self._make = partial(
            envpool.make_gymnasium,
            config.id,
            num_envs=num_envs,
            num_threads=min(num_envs, len(os.sched_getaffinity(0))),
            max_episode_steps=NEVER,
        )
        self._pool: Any = None
        self._observation = np.zeros(0)

    def reset(
        self, *, seed: Sequence[int], options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """New episodes, or only where ``options["reset_mask"]`` says so; the first time of all."""
        if self._pool is None:
            self._pool = self._make(seed=[each >> 1 for each in seed])  # of 31 bits
            self._observation, _ = self._pool.reset()
        elif options is None:
            self._observation, _ = self._pool.reset()
        else:
            chosen = np.flatnonzero(options["reset_mask"]).astype(np.int32)
            observation = self._observation.copy()
            observation[chosen], _ = self._pool.reset(chosen)
            self._observation = observation
        return self._observation, {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step of each."""
        self._observation, reward, terminated, _, info = self._pool.step(actions)
        return self._observation, reward, terminated, info["elapsed_step"] >= self._limit, {}

    def close(self) -> None:
        """End EnvPool's threads."""
        self._pool = None

"""Environments stepped one after the other, without what a general vector does besides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from trainers.environments.single import observation_type

TOLD = ("is_success", "life_lost")
"""What of an ``info`` is handed on, as ``[num_envs]`` bool: false where nothing is said."""


class SyncEnvs:
    """What :class:`~trainers.environments.envs.Envs` needs of Gymnasium's ``SyncVectorEnv``.

    Gymnasium's merges all that every environment's ``info`` holds into arrays, in every step, which
    takes half as long as HalfCheetah's physics. Here only :data:`TOLD` is read. Nothing is reset
    by itself, and every step returns arrays of its own.
    """

    def __init__(self, makers: Sequence[Callable[[], gym.Env]]) -> None:
        self.envs = [make() for make in makers]
        self.single_observation_space = self.envs[0].observation_space
        self.single_action_space = self.envs[0].action_space
        self._observation = np.zeros(
            (len(self.envs), *(self.single_observation_space.shape or ())),
            observation_type(self.single_observation_space),
        )

    def reset(
        self, *, seed: Sequence[int], options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """New episodes, or only where ``options["reset_mask"]`` says so."""
        observation = self._observation.copy()
        mask = [True] * len(self.envs) if options is None else options["reset_mask"]
        for index, env in enumerate(self.envs):
            if mask[index]:
                observation[index], _ = env.reset(seed=seed[index])
        self._observation = observation
        return observation, {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step of each."""
        number = len(self.envs)
        observation = np.empty_like(self._observation)
        reward = np.empty(number)
        terminated, truncated = np.empty(number, bool), np.empty(number, bool)
        infos: dict[str, Any] = {}
        for index, (env, action) in enumerate(zip(self.envs, actions, strict=True)):
            observation[index], reward[index], terminated[index], truncated[index], info = env.step(
                action
            )
            for key in TOLD:
                if key in info:
                    infos.setdefault(key, np.zeros(number, bool))[index] = np.all(info[key])
        self._observation = observation
        return observation, reward, terminated, truncated, infos

    def call(self, name: str, *arguments: Any) -> tuple[Any, ...]:
        """The results of a method of each."""
        return tuple(env.get_wrapper_attr(name)(*arguments) for env in self.envs)

    def replay(self, episodes: Sequence[dict[str, Any]]) -> np.ndarray:
        """Bring each to where its episode was; returns the observations there."""
        stacked = np.stack(self.call("replay_episode", episodes))
        self._observation = stacked.astype(self._observation.dtype)
        return self._observation.copy()

    def close(self) -> None:
        """Close all of them."""
        for env in self.envs:
            env.close()

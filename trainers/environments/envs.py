"""Gymnasium environments, several together, in the trainer's conventions.

Float32 observations in a vector, or a game's pictures as they are; actions in [-1, 1], a seed of
its own for every episode, explicit resets, and open episodes that can be told and replayed (which
is how a checkpoint stores them).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torchrl.data import Bounded, Categorical, TensorSpec, Unbounded

from trainers.config import ConfigError, EnvConfig
from trainers.config.env_id import check_env_id
from trainers.environments.pool import EnvPoolEnvs
from trainers.environments.single import make_env, observation_type
from trainers.environments.sync import SyncEnvs
from trainers.environments.workers import WorkerEnvs

# Observation, reward, terminated and truncated of a step.
Outcome = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class Envs:
    """``num_envs`` copies of an environment, stepped together.

    Args:
        config: which environment, how many, and by what ``backend`` they are stepped.
        num_envs: overrides the number in ``config``.

    Attributes:
        observation_shape: of one observation.
        observation_dtype: float32 of vectors, uint8 of pictures.
        inputs: the length of the observation vector, or the shape ``(C, H, W)`` of pictures.
        action_space: Gymnasium's space of one environment.
        max_episode_steps: the time limit, None if there is none.
        replayable: whether open episodes can be told and replayed: not in EnvPool.
        action_spec: the actions the policy sees: [-1, 1] where ``config.rescale_actions``.
        success: ``[num_envs]`` bool, what the last step said about ``is_success`` (false where it
            said nothing); None if no environment said anything.
        is_game: what is learnt from, :meth:`lesson`, is not quite what happened.

    Raises:
        ConfigError: there is no such environment, it cannot be made with these arguments, a wrapper
            is unknown, its spaces cannot be used, or EnvPool is not installed.
    """

    def __init__(self, config: EnvConfig, num_envs: int | None = None) -> None:
        check_env_id(config)
        self.num_envs = num_envs or config.num_envs
        self.replayable = config.backend != "envpool"
        makers = [partial(make_env, config, index) for index in range(self.num_envs)]
        if config.backend == "envpool":
            self._env: Any = EnvPoolEnvs(config, self.num_envs)
        elif config.backend == "async":
            self._env = WorkerEnvs(makers, config.worker_timeout_s, config.worker_restarts)
        else:
            self._env = SyncEnvs(makers)
        space = self._env.single_observation_space
        self.observation_shape: tuple[int, ...] = space.shape
        self.observation_dtype = np.dtype(observation_type(space))
        self.inputs: Any = space.shape[0] if len(space.shape) == 1 else space.shape
        self._atari = config.atari
        self.is_game = config.atari is not None
        self._life_lost: np.ndarray | bool = False
        self.action_space: Any = self._env.single_action_space
        limit = config.max_episode_steps or gym.spec(config.id).max_episode_steps
        self.max_episode_steps: int | None = limit
        space = self.action_space
        if not isinstance(space, (gym.spaces.Box, gym.spaces.Discrete)):
            self._env.close()
            raise ConfigError(
                "env.id", config.id, "a Box or Discrete action space", f"it has {space}"
            )
        box = space if isinstance(space, gym.spaces.Box) else None
        rescaled = config.rescale_actions and _is_finite_box(space)
        # Skipped where it would change nothing but the last bit.
        unit = box is not None and bool((box.low == -1).all() and (box.high == 1).all())
        self.rescales = rescaled and not unit
        self.clips = config.clip_actions and box is not None
        self.action_spec = _action_spec(space, rescaled)
        self._actions_shape = (self.num_envs, *(space.shape or ()))
        self.success: np.ndarray | None = None
        self._stepped: Callable[[], Any] | None = None
        self._thread: ThreadPoolExecutor | None = None

    @property
    def num_observations(self) -> int:
        """Length of the observation vector, where it is one."""
        (length,) = self.observation_shape
        return length

    def reset(self, seeds: Sequence[int], mask: np.ndarray | None = None) -> np.ndarray:
        """Begin new episodes where ``mask`` (``[num_envs]`` bool, default all) is true.

        Returns:
            Observations of all environments, ``[num_envs, *observation_shape]``.
        """
        options = None if mask is None else {"reset_mask": mask}
        observation, _ = self._env.reset(seed=list(seeds), options=options)
        return self._own(observation)

    def step(self, action: np.ndarray) -> Outcome:
        """One step of every environment.

        Args:
            action: ``[num_envs, n]`` within ``action_spec``.

        Returns:
            Observation ``[num_envs, *observation_shape]``, reward, terminated and truncated
            ``[num_envs]``. The observation of a finished episode is its last one: reset it next.
        """
        self.begin_step(action)
        return self.end_step()

    def begin_step(self, action: np.ndarray, background: bool = False) -> None:
        """The first half of :meth:`step`: hand over the actions.

        Args:
            action: as for :meth:`step`.
            background: step at once, in a thread, instead of in :meth:`end_step`; workers always
                step at once.
        """
        action = self._prepared(action)
        if isinstance(self._env, WorkerEnvs):
            self._env.step_async(action)
            self._stepped = self._env.step_wait
        elif background:
            self._thread = self._thread or ThreadPoolExecutor(1, "environments")
            self._stepped = self._thread.submit(self._env.step, action).result
        else:
            self._stepped = partial(self._env.step, action)

    def end_step(self) -> Outcome:
        """The second half of :meth:`step`: wait for what came of it."""
        assert self._stepped is not None, "no step was begun"
        observation, reward, terminated, truncated, infos = self._stepped()
        self._stepped = None
        success = infos.get("is_success")
        if success is not None:
            success = success.reshape(self.num_envs, -1).all(1)
        self.success = success
        self._life_lost = infos.get("life_lost", False)
        return self._own(observation), reward, terminated, truncated

    def lesson(self, reward: np.ndarray, terminated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is learnt from the last step's reward and termination, ``[num_envs]`` each.

        Of games the sign of the reward, if ``clip_reward``, so that one learning rate does for all;
        and that the loss of a life is an end, if ``life_loss``, though the game goes on.
        """
        if self._atari is None:
            return reward, terminated
        if self._atari.clip_reward:
            reward = np.sign(reward)
        return reward, terminated | self._life_lost if self._atari.life_loss else terminated

    def _own(self, observation: Any) -> np.ndarray:
        return np.array(
            observation, dtype=self.observation_dtype
        )  # a copy: workers reuse their buffer

    def _prepared(self, action: np.ndarray) -> np.ndarray:
        """``[num_envs, n]`` of the policy as the environments want them."""
        space = self.action_space
        action = action.reshape(self._actions_shape)
        if self.rescales:
            # This way the largest of bounds do not overflow.
            action = 0.5 * (1.0 - action) * space.low + 0.5 * (1.0 + action) * space.high
        if self.clips:
            action = np.minimum(np.maximum(action, space.low), space.high)  # faster than clip
        if isinstance(space, gym.spaces.Discrete):
            action = action + space.start
        elif np.issubdtype(space.dtype, np.integer):
            action = np.rint(action)
        return action.astype(space.dtype)

    def open_episodes(self, but_last: bool = False) -> list[dict[str, Any]]:
        """Every environment's open episode, perhaps without its last step.

        See :meth:`~trainers.environments.single.EpisodeRecorder.episode`.
        """
        return list(self._env.call("episode", but_last))

    def replay(self, episodes: list[dict[str, Any]]) -> np.ndarray:
        """Bring every environment to where its episode was; returns the observations there."""
        return self._env.replay(episodes)

    @property
    def replaced_workers(self) -> int:
        """How many were lost in the run so far: it may lose `env.worker_restarts` of them."""
        return getattr(self._env, "replaced", 0)

    @replaced_workers.setter
    def replaced_workers(self, number: int) -> None:
        self._env.replaced = number

    def close(self) -> None:
        """End the environments and their workers."""
        if self._thread is not None:
            self._thread.shutdown()  # after the step that may be under way
        self._env.close()


def _is_finite_box(space: Any) -> bool:
    box = isinstance(space, gym.spaces.Box)
    return box and bool(np.isfinite(space.low).all() and np.isfinite(space.high).all())


def _action_spec(space: Any, rescaled: bool) -> TensorSpec:
    if isinstance(space, gym.spaces.Discrete):
        return Categorical(int(space.n))
    shape = torch.Size([int(np.prod(space.shape))])
    if rescaled:
        return Bounded(-1.0, 1.0, shape)
    if _is_finite_box(space):
        low, high = (torch.tensor(b, dtype=torch.float32) for b in (space.low, space.high))
        return Bounded(low.flatten(), high.flatten(), shape)
    return Unbounded(shape)

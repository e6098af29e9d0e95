"""One Gymnasium environment: made, wrapped, observed as a vector or a game's pictures, recorded."""

from __future__ import annotations

import importlib.util
import struct
import sys
import zlib
from typing import Any

import gymnasium as gym
import numpy as np

from trainers import plugins
from trainers.config import AtariConfig, ConfigError, EnvConfig
from trainers.config.env_id import check_env_id
from trainers.environments.atari import MADE_WITH, AtariGame


def make_env(config: EnvConfig, index: int = 0) -> gym.Env:
    """One environment in its wrappers, its observations a vector, its open episode recorded.

    The parts of a ``Dict`` or ``Tuple`` observation, nested ones too, are put one after the other
    in the order of the space (Gymnasium sorts the keys of a ``Dict`` made from a plain dict), a
    ``Discrete`` one as a one-hot vector. With ``config.atari`` they are stacks of pictures; see
    :class:`~trainers.environments.atari.AtariGame`.

    Raises:
        ConfigError: the id or a wrapper is unknown, the arguments do not fit, a package is missing,
            or the observations cannot be made a vector of numbers.
    """
    _silence_mujoco(config.id)
    arguments = dict(config.kwargs)
    if config.atari is not None:
        arguments |= MADE_WITH
    elif config.max_episode_steps is not None:
        arguments["max_episode_steps"] = config.max_episode_steps
    check_env_id(config)
    try:
        env = gym.make(config.id, **arguments)
    except (gym.error.Error, ImportError) as error:  # MuJoCo's old versions, say
        reason = _missing_extra(config.id) or str(error).splitlines()[0]
        raise ConfigError("env.id", config.id, "an environment that can be made", reason) from error
    except Exception as error:
        if not config.kwargs:
            raise
        raise ConfigError(
            "env.kwargs", config.kwargs, f"arguments of {config.id}", str(error)
        ) from error
    if config.atari is not None:
        env = _as_a_game(env, config, config.atari)
    for name in config.wrappers:
        env = _wrapped(env, name)
    space = env.observation_space
    if config.atari is not None and is_picture(space):
        return EpisodeRecorder(env, index)
    if unfit := _unfit(space):
        hint = "a wrapper of yours can change it: env.wrappers"
        if config.is_game and config.atari is None:
            hint = f"env=atari env.id={config.id} is learnt from"
        raise ConfigError(
            "env.id", config.id, "observations that are a vector of numbers", f"{unfit}; {hint}"
        )
    if not (isinstance(space, gym.spaces.Box) and len(space.shape) == 1):
        env = gym.wrappers.FlattenObservation(env)
    return EpisodeRecorder(env, index)


def is_picture(space: gym.Space) -> bool:
    """Whether an observation is a stack of pictures, to be kept as it comes."""
    return isinstance(space, gym.spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3


def observation_type(space: gym.Space) -> type[np.generic]:
    """In which numbers observations are handed on."""
    return np.uint8 if is_picture(space) else np.float32


def _as_a_game(env: gym.Env, config: EnvConfig, atari: AtariConfig) -> gym.Env:
    chance = atari.repeat_action_probability
    env = AtariGame(env, atari.frame_skip, atari.max_no_ops, atari.fire, chance)
    limit = config.max_episode_steps  # of the agent's steps, so it is looked at out here
    return env if limit is None else gym.wrappers.TimeLimit(env, limit)


def _missing_extra(env_id: str) -> str | None:
    uses_box2d = "box2d" in str(gym.spec(env_id).entry_point)
    if not uses_box2d or importlib.util.find_spec("Box2D"):
        return None
    return "it needs the extra box2d: pip install -c constraints.txt -e '.[box2d]'"


def _wrapped(env: gym.Env, name: str) -> gym.Env:
    wrapped = plugins.wrappers.make(name, env)
    if not isinstance(wrapped, gym.Env):
        raise ConfigError(
            "env.wrappers", name, "a wrapper that returns an environment", f"it returned {wrapped}"
        )
    return wrapped


def _unfit(space: gym.Space, part: str = "observation") -> str | None:
    """The first part of an observation that is no vector of numbers; None if there is none."""
    if isinstance(space, (gym.spaces.Dict, gym.spaces.Tuple)):
        inner = space.spaces
        parts = inner.items() if isinstance(inner, dict) else enumerate(inner)
        return next(filter(None, (_unfit(s, f"{part}[{key!r}]") for key, s in parts)), None)
    if isinstance(space, gym.spaces.Box):
        dimensions = len(space.shape)
        image = dimensions > 2 or (dimensions == 2 and space.dtype == np.uint8)
        return f"{part} is an image, {space}" if image else None
    numbers = (gym.spaces.Discrete, gym.spaces.MultiDiscrete, gym.spaces.MultiBinary)
    return None if isinstance(space, numbers) else f"{part} is {space}"


def _silence_mujoco(env_id: str) -> None:
    """Without a handler MuJoCo writes its warnings to MUJOCO_LOG.TXT in the working directory."""
    spec = gym.registry.get(env_id)
    uses_mujoco = spec is not None and "mujoco" in str(spec.entry_point)
    if (uses_mujoco or "mujoco" in sys.modules) and importlib.util.find_spec("mujoco"):
        import mujoco

        mujoco.set_mju_user_warning(lambda message: None)  # type: ignore  # in its C part


_STATELESS = (
    *(gym.wrappers.FlattenObservation, gym.wrappers.TimeLimit),
    *(gym.wrappers.OrderEnforcing, gym.wrappers.PassiveEnvChecker),
)

_OUTCOME = struct.Struct("<d??")  # reward, terminated, truncated


class EpisodeRecorder(gym.Wrapper):
    """Remembers how its open episode came about: the seed it began with and the actions since.

    Replaying them brings a deterministic environment back to the same state, whatever it consists
    of, without a pickle. An episode longer than ``limit`` steps is not remembered. Whether it did
    come back is told by the last observation and a checksum of all rewards and ends; an episode
    without a step has none to tell by.

    An environment that knows better has ``state_dict()``, nested arrays, numbers and strings, and
    ``load_state_dict(state)``, which returns the observation there. It is reset before that, with
    the episode's seed. Around it there may only be wrappers without a state to speak of (a time
    limit's steps are set): others have to offer both methods themselves, else actions are replayed.
    """

    def __init__(self, env: gym.Env, index: int, limit: int = 100_000) -> None:
        super().__init__(env)
        self._index = index
        self._limit = limit
        self._shape = env.observation_space.shape
        self._seed: int | None = None
        self._actions: list[np.ndarray] | None = []
        self._steps = 0
        self._outcomes = (0, 0)  # checksums of all steps but the last one, and of all
        self._layers: list[gym.Env] = []  # around the one that knows its state
        inner = env
        while isinstance(inner, _STATELESS) and not hasattr(type(inner), "load_state_dict"):
            self._layers.append(inner)
            inner = inner.env
        self._knows_state = all(
            hasattr(type(inner), name) for name in ("state_dict", "load_state_dict")
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin an episode and its record."""
        self._seed, self._actions, self._steps, self._outcomes = seed, [], 0, (0, 0)
        return self._checked(self.env.reset(seed=seed, options=options))

    def step(self, action: Any) -> Any:
        """Step, and note the action and what came of it."""
        self._steps += 1
        if self._actions is not None:
            self._actions.append(np.array(action))
            if len(self._actions) > self._limit:
                self._actions = None
        result = self._checked(self.env.step(action))
        before = self._outcomes[1]
        try:
            outcome = _OUTCOME.pack(*result[1:4])
        except struct.error as error:
            raise ValueError(
                f"a reward that is a number has to come from {self.env}, got {result[1]!r}"
            ) from error
        self._outcomes = before, zlib.crc32(outcome, before)
        return result

    def _checked(self, result: Any) -> Any:
        """A ``result`` whose observation fits its space: else it might fit by being repeated."""
        if np.shape(result[0]) != self._shape:
            raise ValueError(
                f"an observation of shape {np.shape(result[0])} came from {self.env}, whose "
                f"observation space has shape {self._shape}"
            )
        return result

    def episode(self, but_last: bool = False) -> dict[str, Any]:
        """Seed and actions (``[steps, ...]``) of the open episode; actions None if too long.

        With them goes the checksum of their outcomes. Where the environment knows its state, that
        and the number of steps as well.

        Args:
            but_last: leave out the last step, which will be taken again, and the state after it.
        """
        actions = None
        if self._actions is not None:
            shape = (0, *(self.action_space.shape or ()))
            actions = np.stack(self._actions) if self._actions else np.zeros(shape)
            actions = actions[:-1] if but_last else actions
        outcomes = self._outcomes[0 if but_last else 1]
        episode = {"seed": self._seed, "actions": actions, "outcomes": outcomes}
        if self._knows_state and self._seed is not None and not but_last:
            episode |= {"steps": self._steps, "state": self.get_wrapper_attr("state_dict")()}
        return episode

    def replay_episode(self, episodes: list[dict[str, Any]]) -> Any:
        """Replay this environment's entry of ``episodes``; returns the last observation."""
        episode = episodes[self._index]
        observation, _ = self.reset(seed=episode["seed"])
        if self._knows_state and "state" in episode:
            return self._with_state(episode)
        for action in () if episode["actions"] is None else episode["actions"]:
            observation = self.step(action)[0]
        return observation

    def _with_state(self, episode: dict[str, Any]) -> Any:
        actions, self._steps = episode["actions"], episode["steps"]
        self._actions = None if actions is None else list(actions)
        self._outcomes = (0, episode.get("outcomes", 0))
        observation = self.get_wrapper_attr("load_state_dict")(episode["state"])
        for layer in reversed(self._layers):
            if isinstance(layer, gym.ObservationWrapper):
                observation = layer.observation(observation)
            if isinstance(layer, gym.wrappers.TimeLimit):
                layer._elapsed_steps = self._steps
        return observation

"""Environments that tell what happened in them, end when they are told to, or break."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from torch import Tensor

from trainers.config import EnvConfig

ALL_ENDS = ("terminated", "truncated", "both")


class Tale(gym.Env):
    """Its observations tell what happened: ``[episode, step, seed // 2**16, seed % 2**16]``.

    An episode's seed picks one of ``lengths``, its number one of ``ends`` (`how_it_ends`). The
    reward is ``action[0] + 100 * action[1] + ...``. From step ``broken_at`` on, in the episode with
    the seed ``broken_seed`` (default all), ``broken`` is not finite, or raises. With ``choices`` an
    action is one of so many numbers instead of an array.
    """

    def __init__(
        self,
        lengths: tuple[int, ...] = (3,),
        ends: tuple[str, ...] = ALL_ENDS,
        broken: str | None = None,
        broken_at: int = 2,
        broken_seed: int | None = None,
        low: tuple[float, ...] = (-1.0,),
        high: tuple[float, ...] = (1.0,),
        choices: int = 0,
    ) -> None:
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (4,), np.float64)
        box = gym.spaces.Box(np.float32(low), np.float32(high))
        self.action_space = gym.spaces.Discrete(choices) if choices else box
        self.lengths, self.ends = lengths, ends
        self.broken, self.broken_at, self.broken_seed = broken, broken_at, broken_seed
        self.episode = -1
        self.seed = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.episode += 1
        self.seed = seed or 0
        self.step_number = 0
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        self.step_number += 1
        length, end = how_it_ends(self.episode, self.seed, self.lengths, self.ends)
        end = end if self.step_number == length else ""
        numbers = np.atleast_1d(action)
        reward = float(np.dot(numbers, 100.0 ** np.arange(len(numbers))))
        if self._breaks("reward"):
            reward = 1e300  # infinite in float32
        if self._breaks("nan reward"):
            reward = np.nan
        if self._breaks("exception"):
            raise RuntimeError("the simulator gave up")
        terminated, truncated = end in ("terminated", "both"), end in ("truncated", "both")
        return self._observation(), reward, terminated, truncated, {}

    def _observation(self) -> np.ndarray:
        high, low = divmod(self.seed, 2**16)
        observation = np.array([self.episode, self.step_number, high, low], dtype=np.float64)
        if self._breaks("observation"):
            observation[1] = np.nan
        return observation

    def _breaks(self, what: str) -> bool:
        here = self.broken_seed in (None, self.seed) and self.step_number >= self.broken_at
        return here and self.broken == what


def how_it_ends(
    episode: int, seed: int, lengths: Sequence[int], ends: Sequence[str]
) -> tuple[int, str]:
    """Length and end of an episode of `Tale`."""
    return lengths[seed % len(lengths)], ends[episode % len(ends)]


def tale_seed(observation: Tensor) -> int:
    """The seed that an observation of `Tale` tells."""
    return int(observation[-2]) * 2**16 + int(observation[-1])


class Spaces(gym.Env):
    """An environment with any two spaces; an episode lasts four steps."""

    def __init__(self, observation_space: gym.Space, action_space: gym.Space) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self.steps += 1
        return self.observation_space.sample(), 1.0, self.steps == 4, False, {}


class Goal(gym.Env):
    """A point walks for `length` steps; it succeeds where it ends above its goal.

    It tells so in every step, at the `end`, at a `success`, or `never`. An observation has the
    achieved goal (2 numbers), the desired one (2), and a nested part: the action before (2) and
    the number of the step, modulo 3.
    """

    action_space = gym.spaces.Box(-1.0, 1.0, (2,))

    def __init__(self, reports: str = "always", length: int = 4) -> None:
        vector = gym.spaces.Box(-np.inf, np.inf, (2,))
        inner = gym.spaces.Tuple([vector, gym.spaces.Discrete(3)])
        goals = {"desired_goal": vector, "achieved_goal": vector}
        self.observation_space = gym.spaces.Dict({"observation": inner, **goals})
        self.reports, self.length = reports, length

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.step_number = 0
        self.position, self.action = np.zeros(2, np.float32), np.zeros(2, np.float32)
        self.goal = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        self.step_number += 1
        self.action = action
        self.position = self.position + action
        done = self.step_number == self.length
        success = bool((self.position > self.goal).all())
        tells = {"always": True, "end": done, "success": success, "never": False}[self.reports]
        info = {"is_success": success} if tells else {}
        return self._observation(), float(success), False, done, info

    def _observation(self) -> dict[str, Any]:
        return {
            "observation": (self.action, self.step_number % 3),
            "achieved_goal": self.position,
            "desired_goal": self.goal,
        }


class Screen(Tale):
    """A `Tale` whose picture gets brighter with every step, by 16; 31 x 49, 60 steps a second."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 60}  # noqa: RUF012  # Gymnasium's way

    def __init__(self, render_mode: str | None = None, **given: Any) -> None:
        super().__init__(**given)
        self.render_mode = render_mode

    def render(self) -> np.ndarray:
        assert self.render_mode == "rgb_array"
        return np.full((31, 49, 3), 16 * self.step_number, np.uint8)


gym.register("tests/Tale-v0", Tale, disable_env_checker=True)
gym.register("tests/Screen-v0", Screen, disable_env_checker=True)
gym.register("tests/Goal-v0", Goal, disable_env_checker=True)


def register_spaces(name: str, observation_space: gym.Space, action_space: gym.Space) -> str:
    """Register an environment with these spaces; its id."""
    env_id = f"tests/{name}-v0"
    gym.registry.pop(env_id, None)
    gym.register(env_id, lambda: Spaces(observation_space, action_space), disable_env_checker=True)
    return env_id


def env_config(env_id: str = "tests/Tale-v0", **given: Any) -> EnvConfig:
    """The configuration of an environment."""
    return EnvConfig(id=env_id, name="tests", **given)

"""Games of the Arcade Learning Environment, as agents learn them: stacks of small grey pictures."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np

STACK, SIZE = 4, 84

# What the wrapper below does itself, or does without.
MADE_WITH = {"frameskip": 1, "obs_type": "grayscale", "repeat_action_probability": 0.0}

_FRAMES_PER_S = 60
_NO_OP, _FIRE = 0, 1


class AtariGame(gym.Wrapper):
    """A game as Mnih et al. 2015, "Human-level control", show it to an agent.

    An observation is the last four pictures ``[4, 84, 84]`` uint8, the oldest first; an episode
    begins with the same one four times. An action is held for ``frame_skip`` frames, and of the
    last two the brighter pixels are seen, for sprites flicker. The reward is the score, an episode
    the whole game: whether a life was lost stands in ``info["life_lost"]``.

    What is left to chance is drawn here. To seed the emulator, ale-py loads the game anew, which
    takes as long as hundreds of steps; so it is brought back to one state, and draws nothing.

    Args:
        env: made by ale-py with :data:`MADE_WITH`. Its emulator is asked directly, past the other
            wrappers around it, which would look at every frame.
        frame_skip: frames for each action.
        max_no_ops: an episode begins after 1 to so many frames without an action; 0 is none.
        fire: press the button where a game or a life begins, which some wait for, as in "OpenAI
            Baselines" (Dhariwal et al. 2017): an agent that never does would play for ever.
        repeat_action_probability: that in a frame the action of the one before stays, whatever is
            asked for (Machado et al. 2018, section 5.2).
    """

    def __init__(
        self,
        env: gym.Env,
        frame_skip: int = 4,
        max_no_ops: int = 30,
        fire: bool = True,
        repeat_action_probability: float = 0.0,
    ) -> None:
        super().__init__(env)
        game: Any = env.unwrapped
        self._ale, self._actions = game.ale, game._action_set
        self._frame_skip, self._max_no_ops = frame_skip, max_no_ops
        self._fires = fire and "FIRE" in game.get_action_meanings()
        self._stickiness = repeat_action_probability
        self._held: Any = _NO_OP
        self._lives = 0
        env.reset(seed=0)
        self._beginning = self._ale.cloneState(include_rng=True)
        self._opening = self._ale.getScreenGrayscale()  # no part of that state
        self._screen, self._before = (np.zeros_like(self._opening) for _ in range(2))
        self._shrink = Shrink(self._screen.shape, (SIZE, SIZE))
        self._stack = np.zeros((STACK, SIZE, SIZE), np.uint8)
        self._rng = np.random.default_rng(0)
        self.observation_space = gym.spaces.Box(0, 255, self._stack.shape, np.uint8)
        self.metadata = {**env.metadata, "render_fps": _FRAMES_PER_S / frame_skip}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin a game."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._begin()
        if self._max_no_ops:
            for _ in range(self._rng.integers(1, self._max_no_ops + 1)):
                self._hold(_NO_OP, 1)
                self._begin_anew_if_over()
        if self._fires:
            self._hold(_FIRE, self._frame_skip)
            self._begin_anew_if_over()
        self._lives = self._ale.lives()
        self._stack = np.stack([self._shrink(self._screen)] * STACK)
        return self._stack, {"life_lost": False}

    def step(self, action: Any) -> Any:
        """Hold an action for some frames."""
        reward = self._hold(self._actions[action], self._frame_skip)
        lost = self._ale.lives() < self._lives and not self._ale.game_over()
        if lost and self._fires:
            reward += self._hold(_FIRE, self._frame_skip)
        self._lives = self._ale.lives()
        terminated = self._ale.game_over(with_truncation=False)
        truncated = self._ale.game_truncated()
        self._stack = np.concatenate([self._stack[1:], self._shrink(self._screen)[None]])
        return self._stack, reward, terminated, truncated, {"life_lost": lost and not terminated}

    def _hold(self, action: Any, frames: int) -> float:
        """Some frames of an action, up to the game's end; the reward of all of them."""
        reward, left = 0.0, frames
        while left > 0 and not self._ale.game_over():
            left -= 1
            if not (self._stickiness and self._rng.random() < self._stickiness):
                self._held = action
            reward += self._ale.act(self._held)
            if left == 1:
                self._ale.getScreenGrayscale(self._before)
        self._ale.getScreenGrayscale(self._screen)
        if left == 0 and frames > 1:
            np.maximum(self._screen, self._before, out=self._screen)
        return reward

    def _begin(self) -> None:
        self._ale.restoreState(self._beginning)
        self._held = _NO_OP
        np.copyto(self._screen, self._opening)

    def _begin_anew_if_over(self) -> None:
        if self._ale.game_over():
            self._begin()


class Shrink:
    """Makes grey pictures smaller: a pixel is the mean of the area it stands for.

    OpenCV's ``INTER_AREA``, which published results were made with, without OpenCV. All sums are
    of whole numbers and small enough to be exact in float32, so a picture does not depend on the
    machine; OpenCV rounds some that lie between two greys the other way.

    Args:
        size: height and width of what is given.
        smaller: of what is returned; not larger.
    """

    def __init__(self, size: tuple[int, ...], smaller: tuple[int, ...]) -> None:
        self._rows, self._columns = (_shares(*pair) for pair in zip(size, smaller, strict=True))
        self._area = float(self._rows[0].sum() * self._columns[0].sum())

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """From uint8 to uint8."""
        sums = self._rows @ picture.astype(np.float32) @ self._columns.T
        return np.rint(sums / self._area).astype(np.uint8)


def _shares(size: int, smaller: int) -> np.ndarray:
    """``[smaller, size]``: how much of each old pixel is in each new one, in whole numbers."""
    common = math.gcd(size, smaller)
    new, old = size // common, smaller // common  # widths in a unit that divides both
    begin, end = (new * np.arange(smaller)[:, None] + edge for edge in (0, new))
    overlap = np.minimum(end, old * np.arange(1, size + 1)) - np.maximum(
        begin, old * np.arange(size)
    )
    return np.maximum(overlap, 0).astype(np.float32)

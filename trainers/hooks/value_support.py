"""Do returns fit into the support of a distribution over them?"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from tensordict import TensorDictBase

from trainers.trainer import Trainer

logger = logging.getLogger("trainers")


def discounted_returns(rewards: Sequence[float], gamma: float) -> np.ndarray:
    """What follows each step of an episode, ``[steps]``: later rewards count for less."""
    returns = np.zeros(len(rewards))
    following = 0.0
    for step in reversed(range(len(rewards))):
        returns[step] = following = float(rewards[step]) + gamma * following
    return returns


class WatchSupport:
    """Warns of the first episode with a discounted return outside of a support.

    A distribution over returns puts all that lies beyond its support at its end: values are too
    small there, or too large, and which action is the better one can no longer be seen. Register it
    at ``post_collect``. What follows a truncation counts for nothing here.

    Args:
        v_min: the lowest return of the support.
        v_max: the highest.
        gamma: the discount.
    """

    name = "watch_support"

    def __init__(self, v_min: float, v_max: float, gamma: float) -> None:
        self.v_min, self.v_max = v_min, v_max
        self.gamma = gamma
        self._rewards: list[list[float]] = []  # of the open episodes
        self._warned = False

    def __call__(self, trainer: Trainer, rollout: TensorDictBase) -> None:
        if self._warned:
            return
        steps = rollout.batch_size[-1]
        following: Any = rollout["next"]
        rewards = following["reward"].reshape(-1, steps).tolist()
        dones = following["done"].reshape(-1, steps).tolist()
        if len(self._rewards) != len(rewards):
            self._rewards = [[] for _ in rewards]
        for episode, its_rewards, its_dones in zip(self._rewards, rewards, dones, strict=True):
            for reward, done in zip(its_rewards, its_dones, strict=True):
                episode.append(reward)
                if done:
                    self._look(trainer, discounted_returns(episode, self.gamma))
                    episode.clear()

    def _look(self, trainer: Trainer, returns: np.ndarray) -> None:
        outside = returns[(returns < self.v_min) | (returns > self.v_max)]
        if len(outside) and not self._warned:
            self._warned = True
            worst = outside[np.abs(outside - (self.v_min + self.v_max) / 2).argmax()]
            logger.warning(
                "A RETURN IS OUTSIDE OF THE SUPPORT at frame %d: discounted it is %.4g, but "
                "algo.v_min=%g and algo.v_max=%g; it is learnt as if it were at the end",
                *(trainer.frames, worst, self.v_min, self.v_max),
            )

"""Whole episodes of a policy, outside training: what evaluations consist of."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from tensordict import TensorDict
from torchrl.envs.utils import ExplorationType, set_exploration_type

from trainers.environments.envs import Envs
from trainers.errors import NonFiniteError
from trainers.seeding import EVALUATION, episode_seed, own_randomness

logger = logging.getLogger("trainers")

MAX_PARALLEL_EPISODES = 10
ENDLESS = 100_000  # steps of an episode after which a person may wonder what is going on


class Episodes(NamedTuple):
    """What became of some episodes, one entry each."""

    returns: np.ndarray
    """Undiscounted, float64."""
    lengths: np.ndarray
    successes: np.ndarray | None
    """Whether the last step reported ``is_success``; None if no last step said anything."""
    first: dict[str, Any]
    """Seed and actions of the first episode as its environment was given them; actions None if it
    was too long to remember, or EnvPool's."""


def evaluation_seeds(seed: int, episodes: int) -> list[int]:
    """The seeds of an evaluation's episodes."""
    return [episode_seed(seed, EVALUATION, episode) for episode in range(episodes)]


def evaluation_envs(make_envs: Callable[[int], Envs], seeds: Sequence[int]) -> Envs:
    """As many environments as it takes, the random state as it was before."""
    with own_randomness(seeds[0]):  # an environment may draw when it is made
        return make_envs(min(len(seeds), MAX_PARALLEL_EPISODES))


def run_episodes(
    policy: torch.nn.Module, envs: Envs, seeds: Sequence[int], *, deterministic: bool = True
) -> Episodes:
    """Run one episode for every seed, several at a time; the results in the order of ``seeds``."""
    returns = np.zeros(len(seeds))
    lengths = np.zeros(len(seeds), dtype=np.int64)
    successes = np.zeros(len(seeds), dtype=bool)
    reported = False
    first: dict[str, Any] = {"seed": seeds[0], "actions": None}
    # Which episode each environment runs; one that finds none left idles along on its last seed.
    running: list[int | None] = list(range(envs.num_envs))
    waiting = list(range(envs.num_envs, len(seeds)))
    device = next((p.device for p in policy.parameters()), torch.device("cpu"))
    kind = ExplorationType.DETERMINISTIC if deterministic else ExplorationType.RANDOM
    training = policy.training
    policy.eval()
    in_numpy = deterministic and getattr(policy, "acts_in_numpy", False)
    with own_randomness(seeds[0]), torch.no_grad(), set_exploration_type(kind):
        observation = envs.reset(seeds[: envs.num_envs])
        while any(e is not None for e in running):
            if in_numpy:
                action = policy.act(observation, None)  # type: ignore[operator]  # it says so
            else:
                tensor = torch.from_numpy(observation).to(device)
                data = TensorDict({"observation": tensor}, [envs.num_envs])
                action = policy(data)["action"].cpu().numpy()
            observation, reward, terminated, truncated = envs.step(action)
            if not (np.isfinite(reward).all() and np.isfinite(observation).all()):
                raise NonFiniteError(
                    f"an observation or a reward is not finite in step {int(lengths.max()) + 1} of "
                    "an evaluation: the policy was not evaluated"
                )
            done = terminated | truncated
            for env, episode in enumerate(running):
                if episode is not None:
                    returns[episode] += reward[env]
                    lengths[episode] += 1
                    if done[env]:
                        if envs.success is not None:
                            reported, successes[episode] = True, envs.success[env]
                        if episode == 0 and envs.replayable:
                            first = envs.open_episodes()[env]
                        running[env] = waiting.pop(0) if waiting else None
                    elif lengths[episode] == ENDLESS:
                        logger.warning(
                            "an episode of the evaluation goes on after %d steps: "
                            "env.max_episode_steps ends it", ENDLESS,
                        )  # fmt: skip
            if done.any():
                observation = envs.reset([seeds[e or 0] for e in running], done)
    policy.train(training)
    return Episodes(returns, lengths, successes if reported else None, first)


def statistics(values: np.ndarray) -> dict[str, float]:
    """Mean, standard deviation and interquartile mean of ``values`` ``[episodes]``.

    The last is the mean of what is left without the lowest and the highest quarter (rounded down).
    """
    cut = len(values) // 4
    middle = np.sort(values)[cut : len(values) - cut]
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "iqm": float(middle.mean()),
    }

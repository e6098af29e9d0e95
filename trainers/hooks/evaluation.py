"""How good is the policy? Measured apart from training."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.envs.utils import ExplorationType, set_exploration_type

from trainers import checkpoint
from trainers.acting import NumpyPolicy
from trainers.envs import Envs
from trainers.errors import NonFiniteError
from trainers.seeding import EVALUATION, episode_seed, own_randomness
from trainers.trainer import Trainer

logger = logging.getLogger("trainers")

MAX_PARALLEL_EPISODES = 10
ENDLESS = 100_000  # steps of an episode after which a person may wonder what is going on


class Evaluate:
    """Runs whole episodes in environments of its own, and logs the undiscounted raw return.

    The same episodes every time (their seeds are fixed), with the deterministic action unless told
    otherwise; training's random state is as it was before. Register it at ``post_steps`` with
    ``when=every(interval)``, and :meth:`final` at ``shutdown``.

    Args:
        policy: a module, called on a TensorDict with ``observation``; writes ``action``.
        make_envs: called once with a number of environments.
        episodes: episodes of an evaluation.
        seed: of the episodes, and of the actions if they are not deterministic.
        deterministic: whether the policy explores.
        best_dir: where the best policy so far is kept; None keeps none.
    """

    name = "evaluation"

    def __init__(
        self,
        policy: torch.nn.Module,
        make_envs: Callable[[int], Envs],
        *,
        episodes: int = 10,
        seed: int = 0,
        deterministic: bool = True,
        best_dir: Path | None = None,
    ) -> None:
        self.policy = policy
        self.make_envs = make_envs
        self.seeds = [episode_seed(seed, EVALUATION, episode) for episode in range(episodes)]
        self.deterministic = deterministic
        self.best_dir = best_dir
        self.best_return = -math.inf
        self._last_clock = -1
        self._envs: Envs | None = None

    def __call__(self, trainer: Trainer, rollout: TensorDictBase) -> None:
        self._evaluate(trainer)

    def final(self, trainer: Trainer) -> None:
        """Evaluate the policy the run ends with, unless that was just done or it will go on."""
        if not trainer.interrupted and self._last_clock != trainer.clock:
            if not trainer.complete and self.best_return > -math.inf:
                # No part of the run that may go on from here, nor is what it finds.
                self.best_return = math.inf
            self._evaluate(trainer)
        if self._envs is not None:
            self._envs.close()

    def _evaluate(self, trainer: Trainer) -> None:
        with trainer.stopwatch.paused():
            if self._envs is None:
                with own_randomness(self.seeds[0]):  # an environment may draw when it is made
                    self._envs = self.make_envs(min(len(self.seeds), MAX_PARALLEL_EPISODES))
            episodes = run_episodes(
                self.policy, self._envs, self.seeds, deterministic=self.deterministic
            )
        best = float(episodes.returns.mean())
        trainer.metrics.set("eval/episode_return", best)
        trainer.metrics.set("eval/episode_return_std", float(episodes.returns.std()))
        trainer.metrics.set("eval/episode_length", float(episodes.lengths.mean()))
        if episodes.successes is not None:
            trainer.metrics.set("eval/success_rate", float(episodes.successes.mean()))
        trainer.metrics.line_due = True
        self._last_clock = trainer.clock
        if best > self.best_return and self._keep(trainer, best):
            self.best_return = best

    def _keep(self, trainer: Trainer, episode_return: float) -> bool:
        """Put the policy into ``best_dir``; False if the disk does not take it."""
        if self.best_dir is None:
            return True
        state = {
            "policy": self.policy.state_dict(),
            "frames": trainer.frames,
            "eval/episode_return": episode_return,
        }
        fresh = self.best_dir.with_name(f".{self.best_dir.name}.new")
        try:
            shutil.rmtree(fresh, ignore_errors=True)
            checkpoint.save(fresh, state)
            shutil.rmtree(self.best_dir, ignore_errors=True)
            fresh.rename(self.best_dir)
        except OSError as error:
            logger.error("THE BEST POLICY IS NOT KEPT at frame %d: %s", trainer.frames, error)
            return False
        return True

    def state_dict(self) -> dict[str, Any]:
        """The best return so far, and when the last evaluation was."""
        return {"best_return": self.best_return, "last_clock": self._last_clock}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.best_return, self._last_clock = state["best_return"], state["last_clock"]


class Episodes(NamedTuple):
    """What became of some episodes, one entry each."""

    returns: np.ndarray
    """Undiscounted, float64."""
    lengths: np.ndarray
    successes: np.ndarray | None
    """Whether the last step reported ``is_success``; None if no last step said anything."""


def run_episodes(
    policy: torch.nn.Module, envs: Envs, seeds: Sequence[int], *, deterministic: bool = True
) -> Episodes:
    """Run one episode for every seed, several at a time; the results in the order of ``seeds``."""
    returns = np.zeros(len(seeds))
    lengths = np.zeros(len(seeds), dtype=np.int64)
    successes = np.zeros(len(seeds), dtype=bool)
    reported = False
    # Which episode each environment runs; one that finds none left idles along on its last seed.
    running: list[int | None] = list(range(envs.num_envs))
    waiting = list(range(envs.num_envs, len(seeds)))
    device = next((p.device for p in policy.parameters()), torch.device("cpu"))
    kind = ExplorationType.DETERMINISTIC if deterministic else ExplorationType.RANDOM
    training = policy.training
    policy.eval()
    with own_randomness(seeds[0]), torch.no_grad(), set_exploration_type(kind):
        observation = envs.reset(seeds[: envs.num_envs])
        while any(e is not None for e in running):
            if deterministic and isinstance(policy, NumpyPolicy):
                action = policy.act(observation, None)
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
                        running[env] = waiting.pop(0) if waiting else None
                    elif lengths[episode] == ENDLESS:
                        logger.warning(
                            "an episode of the evaluation goes on after %d steps: "
                            "env.max_episode_steps ends it", ENDLESS,
                        )  # fmt: skip
            if done.any():
                observation = envs.reset([seeds[e or 0] for e in running], done)
    policy.train(training)
    return Episodes(returns, lengths, successes if reported else None)

"""How good is the policy? Measured apart from training."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDictBase

from trainers.environments.envs import Envs
from trainers.policies.episodes import Episodes, evaluation_envs, evaluation_seeds, run_episodes
from trainers.saving import checkpoint
from trainers.saving.finite import refuse_non_finite
from trainers.trainer import Trainer

logger = logging.getLogger("trainers")


class Evaluate:
    """Runs whole episodes in environments of its own, and logs the undiscounted raw return.

    The same episodes every time (their seeds are fixed), with the deterministic action unless told
    otherwise; training's random state is as it was before. Register it at ``post_steps`` with
    ``when=every(interval)``, :meth:`start` at ``setup`` and :meth:`final` at ``shutdown``.

    Args:
        policy: a module, called on a TensorDict with ``observation``; writes ``action``.
        make_envs: called once with a number of environments.
        episodes: episodes of an evaluation.
        seed: of the episodes, and of the actions if they are not deterministic.
        deterministic: whether the policy explores.
        best_dir: where the best policy so far is kept; None keeps none.
        about: in words, what the policy learns by and in; saved with it and with the run.

    Attributes:
        episodes: of the last evaluation; None if there was none since the run was started.
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
        about: str = "",
    ) -> None:
        self.policy = policy
        self.make_envs = make_envs
        self.seeds = evaluation_seeds(seed, episodes)
        self.deterministic = deterministic
        self.best_dir = best_dir
        self.about = about
        self.best_return = -math.inf
        self.episodes: Episodes | None = None
        self._last_clock = -1
        self._envs: Envs | None = None

    def start(self, trainer: Trainer) -> None:
        """Set a best policy aside that is of frames to come: the run goes on from before it."""
        if self.best_dir is None:
            return
        best, before = self.best_dir, _beside(self.best_dir, "old")
        try:
            if before.exists() and not best.exists():  # killed between two renames
                before.rename(best)
            if best.exists() and checkpoint.load_plain(best)["frames"] > trainer.frames:
                later = _beside(best, "later")
                shutil.rmtree(later, ignore_errors=True)
                best.rename(later)
                self.best_return = -math.inf  # the policy that it was of is no more
                logger.info("%s is of a later frame: set aside until there is another one", best)
        except (OSError, checkpoint.CheckpointError) as error:
            logger.warning("%s stays as it is: %s", best, error)

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
                self._envs = evaluation_envs(self.make_envs, self.seeds)
            episodes = run_episodes(
                self.policy, self._envs, self.seeds, deterministic=self.deterministic
            )
        self.episodes = episodes
        mean_return = float(episodes.returns.mean())
        trainer.metrics.set("eval/episode_return", mean_return)
        trainer.metrics.set("eval/episode_return_std", float(episodes.returns.std()))
        trainer.metrics.set("eval/episode_length", float(episodes.lengths.mean()))
        if episodes.successes is not None:
            trainer.metrics.set("eval/success_rate", float(episodes.successes.mean()))
        trainer.metrics.line_due = True
        self._last_clock = trainer.clock
        if mean_return > self.best_return and self._keep(trainer, mean_return):
            self.best_return = mean_return

    def _keep(self, trainer: Trainer, episode_return: float) -> bool:
        """Put the policy into ``best_dir``; False if the disk does not take it."""
        if self.best_dir is None:
            return True
        state = {
            "policy": self.policy.state_dict(),
            "about": self.about,
            "frames": trainer.frames,
            "eval/episode_return": episode_return,
        }
        fresh, before, later = (_beside(self.best_dir, what) for what in ("new", "old", "later"))
        try:
            shutil.rmtree(fresh, ignore_errors=True)
            checkpoint.save(fresh, state, check=refuse_non_finite)
            if self.best_dir.exists():  # never removed before there is another, see `start`
                shutil.rmtree(before, ignore_errors=True)
                self.best_dir.rename(before)
            fresh.rename(self.best_dir)
            for stale in (before, later):
                shutil.rmtree(stale, ignore_errors=True)
        except OSError as error:
            logger.error("THE BEST POLICY IS NOT KEPT at frame %d: %s", trainer.frames, error)
            return False
        return True

    def state_dict(self) -> dict[str, Any]:
        """The best return so far, when the last evaluation was, and of what."""
        return {
            "best_return": self.best_return,
            "last_clock": self._last_clock,
            "about": self.about,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.best_return, self._last_clock = state["best_return"], state["last_clock"]


def _beside(directory: Path, what: str) -> Path:
    return directory.with_name(f".{directory.name}.{what}")

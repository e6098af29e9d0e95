"""Evaluations are filmed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from tensordict import TensorDictBase

from trainers.config import EnvConfig
from trainers.hooks.evaluation import Evaluate
from trainers.loggers import Logger, VideoLogger
from trainers.policies.episodes import Episodes
from trainers.policies.films import RenderingError, check_rendering, film
from trainers.trainer import Trainer

logger = logging.getLogger("trainers")


class FilmEvaluations:
    """Films the first episode of every evaluation, and hands it to the loggers that show films.

    Register the object at ``post_steps`` behind ``evaluate``, :meth:`start` at ``setup`` and
    :meth:`final` at ``shutdown``. Where there can be no film it says so, and training goes on.

    Args:
        evaluate: the hook that evaluates.
        env: what it evaluates in.
        directory: where the films go, ``eval-<frames>.mp4`` each.
        loggers: those that can are shown every film.
    """

    name = "films"

    def __init__(
        self, evaluate: Evaluate, env: EnvConfig, directory: Path, loggers: Sequence[Logger]
    ) -> None:
        self.evaluate = evaluate
        self.env = env
        self.directory = directory
        self.loggers = [log for log in loggers if isinstance(log, VideoLogger)]
        self._possible = True
        self._filmed: Episodes | None = None

    def start(self, trainer: Trainer) -> None:
        """Try whether the environment can be rendered."""
        with trainer.stopwatch.paused():
            try:
                check_rendering(self.env)
            except RenderingError as error:
                self._possible = False
                logger.warning("evaluations are not filmed: %s", error)

    def __call__(self, trainer: Trainer, rollout: TensorDictBase) -> None:
        self.final(trainer)

    def final(self, trainer: Trainer) -> None:
        """Film the last evaluation, unless that was done."""
        episodes = self.evaluate.episodes
        if not self._possible or episodes is self._filmed or episodes is None:
            return
        self._filmed = episodes
        path = self.directory / f"eval-{trainer.frames:010d}.mp4"
        with trainer.stopwatch.paused():
            try:
                film(self.env, episodes, path, cancelled=lambda: trainer.interrupted)
            except RenderingError as error:
                logger.error("NO FILM of the evaluation at frame %d: %s", trainer.frames, error)
                return
            for log in self.loggers:
                try:
                    log.write_video("eval/video", path, trainer.frames)
                except Exception as error:  # the film is there, if not shown
                    logger.warning("%s does not show %s: %s", type(log).__name__, path, error)

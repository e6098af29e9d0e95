"""What watches a run: metrics, evaluation, progress bar, report, checkpoints, limits."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from torchrl.data import Categorical

from trainers.build import Built
from trainers.config import LogConfig, TrainConfig
from trainers.environments.envs import Envs
from trainers.hooks import (
    Checkpoint,
    EarlyStop,
    Evaluate,
    FilmEvaluations,
    LogEpisodes,
    LogGradNorm,
    LogLearningRates,
    LogLosses,
    LogScalar,
    LogSimulatorFrames,
    LogTimings,
    LogUpdateRatio,
    ProgressBar,
    Report,
    StopAfter,
    WriteMetrics,
    norm,
)
from trainers.loggers import make_loggers
from trainers.metrics import STATISTICS
from trainers.stages import Stage
from trainers.timetable import every
from trainers.trainer import Trainer


def observe(built: Built, config: TrainConfig, run_dir: Path) -> Checkpoint:
    """Register the hooks that change nothing about what is learnt; returns the one that saves.

    Raises:
        ValueError: a hook of the user's has the name of one of these.
    """
    trainer = built.trainer
    warm_up = getattr(config.algo, "init_random_frames", 0)
    loggers = make_loggers(config.logger, run_dir, config.to_dict())
    writer = WriteMetrics(loggers, config.log.interval)
    evaluate = Evaluate(
        built.policy,
        partial(Envs, replace(config.env, backend="sync")),
        episodes=config.eval.episodes,
        seed=config.eval.seed,
        deterministic=config.eval.deterministic,
        best_dir=run_dir / "best" if config.checkpoint.best else None,
        about=config.about,
    )
    films = FilmEvaluations(evaluate, config.env, run_dir / "videos", loggers)
    save = Checkpoint(run_dir / "checkpoints", config.checkpoint.keep)
    save_due = every(config.checkpoint.interval)

    on = trainer.register_hook
    on(Stage.SETUP, writer.start)
    # The first one at frame 0: a run that dies early can be resumed as well.
    on(Stage.SETUP, save, when=lambda t: t.frames == 0 and config.checkpoint.interval > 0)
    on(Stage.CHECKPOINT, save, when=lambda t: t.ending or save_due(t))
    if config.eval.video:
        on(Stage.SETUP, films.start)
    clipped = getattr(config.algo, "max_grad_norm", None) is not None
    _measure(trainer, config.log, warm_up, clipped)
    if config.env.atari is not None:
        on(Stage.POST_STEPS, LogSimulatorFrames(config.env.atari.frame_skip))
    on(Stage.SETUP, evaluate.start)
    on(Stage.POST_STEPS, evaluate, when=every(config.eval.interval))
    on(Stage.SHUTDOWN, evaluate.final)
    if config.eval.video:
        on(Stage.POST_STEPS, films)
        on(Stage.SHUTDOWN, films.final)
    on(Stage.POST_STEPS, writer)  # after every hook that adds to a line
    on(Stage.SHUTDOWN, writer.finish)
    _limit(trainer, config, writer)  # after the line was written
    if config.progress:
        bar = ProgressBar(writer)
        on(Stage.SETUP, bar.open)
        on(Stage.POST_STEPS, bar)
        on(Stage.SHUTDOWN, bar.close)
    if config.report.interval_s > 0:
        report = Report(run_dir, config.report.interval_s)
        on(Stage.POST_STEPS, report)
        on(Stage.SHUTDOWN, report.finish)  # after the last line was written
    return save


def _measure(trainer: Trainer, log: LogConfig, warm_up: int, clipped: bool) -> None:
    """What is written in a line besides evaluations."""
    on = trainer.register_hook
    if log.episodes:
        on(Stage.POST_COLLECT, LogEpisodes())
    if log.reward:
        on(Stage.POST_COLLECT, LogScalar(("next", "reward"), "train/reward", STATISTICS))
    if log.done_rate:
        on(Stage.POST_COLLECT, LogScalar(("next", "done"), "train/done_rate"))
    if log.norms:
        envs = trainer.collector.envs
        if not isinstance(envs.action_spec, Categorical):
            on(Stage.POST_COLLECT, LogScalar("action", "train/action_norm", of=norm))
        if isinstance(envs.inputs, int):  # pictures have no norm to speak of
            on(Stage.POST_COLLECT, LogScalar("observation", "train/observation_norm", of=norm))
    if log.grad_norm and not clipped:  # else known from the clipping, as it was before
        for phase in trainer.phases:
            norm_of = LogGradNorm(phase.parameters(), phase.name)
            on(Stage.POST_OPTIM, norm_of, norm_of.metric, when=phase.was_taken)
    if log.losses:
        on(Stage.POST_OPTIM, LogLosses())
    if log.lr:
        on(Stage.POST_STEPS, LogLearningRates())
    if log.update_ratio:
        on(Stage.POST_STEPS, LogUpdateRatio(warm_up))
    if log.timings:
        timings = LogTimings()
        on(Stage.SETUP, timings.start)
        on(Stage.POST_COLLECT, timings.collected)
        on(Stage.POST_STEPS, timings.updated)
        on(Stage.CHECKPOINT, timings.start)  # after the run was saved


def _limit(trainer: Trainer, config: TrainConfig, writer: WriteMetrics) -> None:
    """Ends of a run other than its last frame."""
    on = trainer.register_hook
    if config.early_stop.metric is not None:
        early_stop = EarlyStop(writer, config.early_stop)
        on(Stage.SETUP, early_stop.resume)
        on(Stage.POST_STEPS, early_stop)
        on(Stage.SHUTDOWN, early_stop.close)
    if config.max_seconds is not None:
        limit = StopAfter(config.max_seconds)
        on(Stage.SETUP, limit.start)
        on(Stage.POST_STEPS, limit)

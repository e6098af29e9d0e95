"""What can happen at a stage: one topic a file, hooks that do one thing."""

from trainers.hooks.checkpointing import Checkpoint
from trainers.hooks.evaluation import Evaluate
from trainers.hooks.gradients import AnnealLR, ClipGradNorm, StepLRScheduler
from trainers.hooks.limits import EarlyStop, StopAfter
from trainers.hooks.logging import (
    LogEpisodes,
    LogGradNorm,
    LogLearningRates,
    LogLosses,
    LogScalar,
    LogUpdateRatio,
    WriteMetrics,
    norm,
)
from trainers.hooks.progress import ProgressBar
from trainers.hooks.replay import Replay
from trainers.hooks.targets import StepUpdater, TargetUpdate
from trainers.hooks.weights import WeightSync

__all__ = [
    "AnnealLR",
    "Checkpoint",
    "ClipGradNorm",
    "EarlyStop",
    "Evaluate",
    "LogEpisodes",
    "LogGradNorm",
    "LogLearningRates",
    "LogLosses",
    "LogScalar",
    "LogUpdateRatio",
    "ProgressBar",
    "Replay",
    "StepLRScheduler",
    "StepUpdater",
    "StopAfter",
    "TargetUpdate",
    "WeightSync",
    "WriteMetrics",
    "norm",
]

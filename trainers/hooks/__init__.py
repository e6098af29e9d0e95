"""What can happen at a stage: one topic a file, hooks that do one thing."""

from trainers.hooks.checkpointing import Checkpoint
from trainers.hooks.evaluation import Evaluate
from trainers.hooks.gradients import AnnealLR, ClipGradNorm, StepLRScheduler
from trainers.hooks.limits import StopAfter
from trainers.hooks.logging import (
    LogEpisodes,
    LogGradNorm,
    LogLearningRates,
    LogLosses,
    LogScalar,
    LogTimings,
    LogUpdateRatio,
    WriteMetrics,
    norm,
)
from trainers.hooks.priorities import PrioritizedReplay
from trainers.hooks.progress import ProgressBar
from trainers.hooks.reduction import MeanLosses
from trainers.hooks.replay import Replay
from trainers.hooks.sequences import NStepReturns, Slices
from trainers.hooks.targets import StepUpdater, TargetUpdate
from trainers.hooks.weights import WeightSync

__all__ = [
    "AnnealLR",
    "Checkpoint",
    "ClipGradNorm",
    "Evaluate",
    "LogEpisodes",
    "LogGradNorm",
    "LogLearningRates",
    "LogLosses",
    "LogScalar",
    "LogTimings",
    "LogUpdateRatio",
    "MeanLosses",
    "NStepReturns",
    "PrioritizedReplay",
    "ProgressBar",
    "Replay",
    "Slices",
    "StepLRScheduler",
    "StepUpdater",
    "StopAfter",
    "TargetUpdate",
    "WeightSync",
    "WriteMetrics",
    "norm",
]

"""What can happen at a stage: one topic a file, hooks that do one thing."""

from trainers.hooks.advantage import Advantage, NormalizeAdvantage, first_epoch
from trainers.hooks.checkpointing import Checkpoint
from trainers.hooks.evaluation import Evaluate
from trainers.hooks.films import FilmEvaluations
from trainers.hooks.gradients import ClipGradNorm, LogGradNorm
from trainers.hooks.kl import AdaptBeta, StopEpochs
from trainers.hooks.limits import EarlyStop, StopAfter
from trainers.hooks.logging import (
    LogEpisodes,
    LogLearningRates,
    LogLosses,
    LogScalar,
    LogSimulatorFrames,
    LogTimings,
    LogUpdateRatio,
    WriteMetrics,
    norm,
)
from trainers.hooks.minibatches import Minibatches
from trainers.hooks.normalization import ScaleReward, UpdateNormalizer
from trainers.hooks.priorities import PrioritizedReplay
from trainers.hooks.progress import ProgressBar
from trainers.hooks.reduction import MeanLosses
from trainers.hooks.replay import Replay
from trainers.hooks.reporting import Report
from trainers.hooks.schedules import AnnealBuffer, AnnealEpsilon, AnnealLR, StepLRScheduler
from trainers.hooks.sequences import NStepReturns, Slices
from trainers.hooks.targets import StepUpdater, TargetUpdate
from trainers.hooks.value_support import WatchSupport
from trainers.hooks.weights import WeightSync
from trainers.hooks.whole_episodes import WholeEpisodes

__all__ = [
    "AdaptBeta",
    "Advantage",
    "AnnealBuffer",
    "AnnealEpsilon",
    "AnnealLR",
    "Checkpoint",
    "ClipGradNorm",
    "EarlyStop",
    "Evaluate",
    "FilmEvaluations",
    "LogEpisodes",
    "LogGradNorm",
    "LogLearningRates",
    "LogLosses",
    "LogScalar",
    "LogSimulatorFrames",
    "LogTimings",
    "LogUpdateRatio",
    "MeanLosses",
    "Minibatches",
    "NStepReturns",
    "NormalizeAdvantage",
    "PrioritizedReplay",
    "ProgressBar",
    "Replay",
    "Report",
    "ScaleReward",
    "Slices",
    "StepLRScheduler",
    "StepUpdater",
    "StopAfter",
    "StopEpochs",
    "TargetUpdate",
    "UpdateNormalizer",
    "WatchSupport",
    "WeightSync",
    "WholeEpisodes",
    "WriteMetrics",
    "first_epoch",
    "norm",
]

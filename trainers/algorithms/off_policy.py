"""What the algorithms that learn from a replay buffer have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from tensordict.nn import TensorDictParams
from torch import nn
from torch.optim import Optimizer
from torchrl.data import ReplayBuffer
from torchrl.data.replay_buffers.samplers import PrioritizedSampler
from torchrl.objectives import LossModule, SACLoss, ValueEstimators
from torchrl.objectives.utils import TargetNetUpdater
from torchrl.objectives.value import GAE, TD1Estimator, TDLambdaEstimator

from trainers.algorithms.common import anneal_rates, clip_gradients, sync_weights
from trainers.config import ConfigError
from trainers.config.off_policy import OffPolicyConfig, SlicesConfig, TargetsConfig
from trainers.hooks import (
    MeanLosses,
    NStepReturns,
    PrioritizedReplay,
    Replay,
    Slices,
    StepUpdater,
    TargetUpdate,
)
from trainers.losses.sizes import with_sizes, writes_squares
from trainers.networks.cnn import Inputs
from trainers.phases import Phase
from trainers.replay.buffer import FastReplayBuffer
from trainers.replay.pictures import Pictures
from trainers.replay.rows import RowStorage, on_disk
from trainers.replay.samplers import Prioritized
from trainers.stages import Stage
from trainers.trainer import Trainer
from trainers.updates import UpdateRatio

# TD(0) goes unnamed: it is what a loss makes by itself, and one of a user's may differ.
_OVER_TIME = (TD1Estimator, TDLambdaEstimator, GAE)
_KINDS_OVER_TIME = (ValueEstimators.TD1, ValueEstimators.TDLambda, ValueEstimators.GAE)
_ESTIMATORS = {"td0": (), "td1": (ValueEstimators.TD1,), "td_lambda": (ValueEstimators.TDLambda,)}


class Agent(NamedTuple):
    """What an algorithm acts with and trains; its networks are where the action spec is."""

    policy: nn.Module
    """Writes ``action``; the best it knows if TorchRL's exploration type is deterministic."""
    explorer: nn.Module
    """The policy as it collects, perhaps with noise."""
    loss: Any
    optimizer: Optimizer | Sequence[Optimizer]


class OffPolicyTrainer(Trainer):
    """The timetable of learning from a replay buffer.

    Args:
        collector: rollouts of transitions; its warm-up should be ``config.init_random_frames``.
        loss_module: a TorchRL loss of the algorithm's kind, or any that learns from transitions.
        optimizer: over the parameters of the loss.
        replay_buffer: any TorchRL replay buffer.
        total_frames: end of the run in frames.
        config: everything else, in numbers; without one, batches are of the buffer's own size, and
            the warm-up is the collector's. What the other arguments are built with (``lr``, noise)
            is up to them.
        target_update: TorchRL's ``SoftUpdate`` or ``HardUpdate`` instead of the configured one.
        pictures: keeps observations that are stacks of pictures, in place of the buffer.
    """

    config_class: ClassVar[type[OffPolicyConfig]]

    def __init__(
        self,
        *,
        collector: Any,
        loss_module: Any,
        optimizer: Optimizer | Sequence[Optimizer],
        replay_buffer: ReplayBuffer,
        total_frames: int,
        config: Any = None,
        target_update: TargetNetUpdater | None = None,
        pictures: Pictures | None = None,
    ) -> None:
        batch_size = getattr(replay_buffer, "_batch_size", None) if config is None else None
        if config is None:
            warm_up = getattr(collector, "init_random_frames", None) or 0
            config = replace(self.config_class(), init_random_frames=warm_up)
        super().__init__(
            collector=collector,
            phases=self.make_phases(loss_module, optimizer, config),
            total_frames=total_frames,
            update_plan=UpdateRatio(config.utd_ratio, config.init_random_frames),
        )
        device = next(self.phases[0].parameters()).device
        keys = getattr(loss_module, "tensor_keys", SACLoss.default_keys())
        replay = make_replay(
            replay_buffer, batch_size or config.batch_size, device, config, keys, pictures
        )

        on = self.register_hook
        on(Stage.POST_COLLECT, replay.extend)
        if config.lr_schedule == "linear":
            anneal_rates(self)
        slice_length = _slice_length(loss_module, config)
        if slice_length is not None:
            on(Stage.PROCESS_OPTIM_BATCH, Slices(replay, slice_length))
        else:
            on(Stage.PROCESS_OPTIM_BATCH, replay.sample)
        if config.n_steps > 1:
            gamma = _discount(loss_module, config)
            n_steps = NStepReturns(replay, config.n_steps, gamma, keys.reward, keys.done)
            on(Stage.PROCESS_OPTIM_BATCH, n_steps)
        if config.reduction == "none":
            on(Stage.POST_LOSS, MeanLosses())
        if config.max_grad_norm is not None:
            clip_gradients(self, config.max_grad_norm)
        if target_update is not None:
            on(Stage.POST_OPTIM, StepUpdater(target_update))
        elif _has_targets(loss_module):
            on(Stage.POST_OPTIM, make_target_update(loss_module, config))
        if isinstance(replay, PrioritizedReplay):
            on(Stage.POST_OPTIM, replay.update_priority)
        sync_weights(self)

    def make_phases(self, loss_module: Any, optimizer: Any, config: Any) -> list[Phase]:
        """One, unless an algorithm says otherwise."""
        part = partial(with_sizes, loss_module) if writes_squares(loss_module) else None
        return [Phase(loss_module, optimizer, part=part)]


def make_buffer(config: OffPolicyConfig, device: torch.device) -> ReplayBuffer:
    """An empty one, as configured; ``device`` is where the networks are."""
    storage = RowStorage(config.buffer_size, **_memory(config, device))
    sampler = None
    if config.prioritized:
        sampler = Prioritized(config.buffer_size, config.priority_alpha, config.priority_beta)
    return FastReplayBuffer(storage=storage, batch_size=config.batch_size, sampler=sampler)


def make_pictures(
    config: OffPolicyConfig, inputs: Inputs, num_envs: int, device: torch.device
) -> Pictures | None:
    """Where the buffer's pictures go, beside it; None where observations are vectors."""
    if isinstance(inputs, int):
        return None
    return Pictures(config.buffer_size, num_envs, **_memory(config, device))


def _memory(config: OffPolicyConfig, device: torch.device) -> dict[str, Any]:
    """Where it is, and what makes it."""
    if config.storage == "memmap":
        return {"empty": on_disk}
    return {"device": device if config.storage == "device" else "cpu"}


def make_replay(
    buffer: ReplayBuffer,
    batch_size: int,
    device: torch.device,
    config: OffPolicyConfig,
    keys: Any,
    pictures: Pictures | None = None,
) -> Replay:
    """Prioritized if the configuration or the buffer says so; ``keys`` are the loss's."""
    slices = isinstance(config, SlicesConfig) and config.slice_length is not None
    time_major = config.n_steps > 1 or slices
    if not config.prioritized and not isinstance(buffer.sampler, PrioritizedSampler):
        return Replay(buffer, batch_size, device, time_major, pictures)
    return PrioritizedReplay(
        buffer,
        batch_size,
        device,
        time_major,
        pictures,
        beta=config.priority_beta,
        beta_end=config.priority_beta_end,
        weight_key=keys.priority_weight,
        error_key=keys.priority,
    )


def make_target_update(loss: LossModule, config: TargetsConfig) -> TargetUpdate:
    """A moving average every update, or a copy every ``target_update_interval`` updates."""
    tau = config.tau if config.target_update == "soft" else 1.0
    return TargetUpdate(loss, tau, config.targets_interval)


def register_critics(loss: Any) -> None:
    """Make the parameters of a list of one critic the loss's own.

    TorchRL stacks the parameters of a list, but registers no stack of one: without this an
    optimizer would never see them.
    """
    stack = loss.qvalue_network_params
    if next(stack.parameters(), None) is not None:
        return
    trained = {tuple(name.split(".")) for name, _ in loss.qvalue_network.named_parameters()}

    def registered(name: tuple[str, ...], tensor: Any) -> Any:
        copied = tensor.detach().clone()
        return nn.Parameter(copied) if name in trained else copied

    stack = stack.named_apply(registered, nested_keys=True)
    loss.qvalue_network_params = TensorDictParams(stack, no_convert=True)


def make_estimator(loss: Any, config: Any) -> None:
    """Tell ``loss`` how its values look ahead, unless it has brought that with it."""
    if getattr(loss, "_value_estimator", None) is not None:
        return
    kind = config.value_estimator if isinstance(config, SlicesConfig) else "td0"
    lmbda = {"lmbda": config.lmbda} if kind == "td_lambda" else {}
    loss.make_value_estimator(*_ESTIMATORS[kind], gamma=config.gamma, **lmbda)


def _slice_length(loss: Any, config: OffPolicyConfig) -> int | None:
    """TD(1) and TD(lambda) take the rows of a batch for steps in time: without slices, wrongly."""
    length = config.slice_length if isinstance(config, SlicesConfig) else None
    used = getattr(loss, "_value_estimator", None) or getattr(loss, "default_value_estimator", None)
    if length is None and (isinstance(used, _OVER_TIME) or used in _KINDS_OVER_TIME):
        name = used.name if isinstance(used, ValueEstimators) else type(used).__name__
        hint = f"{name} follows episodes over time and would take unrelated transitions for one"
        raise ConfigError("algo.slice_length", None, "a whole number at least 2", hint)
    return length


def _discount(loss: Any, config: OffPolicyConfig) -> float:
    """The loss's own, where it has one."""
    return float(getattr(getattr(loss, "_value_estimator", None), "gamma", config.gamma))


def _has_targets(loss: Any) -> bool:
    return isinstance(loss, nn.Module) and any(
        name.startswith("target_") for name, _ in loss.named_children()
    )

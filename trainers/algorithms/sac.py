"""Soft actor-critic: off-policy, maximum entropy, continuous actions.

Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications", https://arxiv.org/abs/1812.05905;
with a value network their first version, "Soft Actor-Critic", https://arxiv.org/abs/1801.01290.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tensordict.nn import TensorDictParams
from torch import nn
from torch.optim import Adam, Optimizer
from torchrl.data import Bounded, ReplayBuffer, TensorSpec
from torchrl.data.replay_buffers.samplers import PrioritizedSampler
from torchrl.modules import ProbabilisticActor
from torchrl.objectives import LossModule, SACLoss, ValueEstimators
from torchrl.objectives.utils import TargetNetUpdater
from torchrl.objectives.value import GAE, TD1Estimator, TDLambdaEstimator

from trainers.algorithms.common import grouped_adam
from trainers.config import ConfigError, SACConfig
from trainers.hooks import (
    AnnealLR,
    ClipGradNorm,
    MeanLosses,
    NStepReturns,
    PrioritizedReplay,
    Replay,
    Slices,
    StepUpdater,
    TargetUpdate,
    WeightSync,
)
from trainers.losses.fast_sac import FastSACLoss
from trainers.stages import Stage
from trainers.trainer import Trainer
from trainers.updates import UpdateRatio

ACTION_SPACE = "a finite Box"
# Buffers of the loss that are settings, no part of a run's state.
SETTINGS = ("gamma", "lmbda", "min_log_alpha", "max_log_alpha", "_target_entropy")


def accepts(action_spec: TensorSpec) -> bool:
    """SAC squashes a Gaussian into the bounds of the action space."""
    return isinstance(action_spec, Bounded)


def make_loss(
    actor: ProbabilisticActor,
    critics: Sequence[nn.Module] | nn.Module,
    action_spec: TensorSpec,
    config: SACConfig,
    loss_class: Any = SACLoss,
    value_network: nn.Module | None = None,
) -> Any:
    """The loss with all of ``config``'s keywords; equations 5 to 7 and 18 of the paper.

    ``critics`` is one network, of which the loss makes ``config.num_critics``, or a list of them.
    With a ``value_network`` V(s) it is the first version's, whose one target is that network's.
    """
    one = isinstance(critics, nn.Module)
    first = value_network is not None
    version = {"value_network": value_network, "delay_value": config.delay_qvalue} if first else {}
    if config.reduction == "none":
        version["scalar_output_mode"] = "non_tensor"  # else alpha and entropy are left out
    loss = loss_class(
        actor,
        critics,
        num_qvalue_nets=config.num_critics if one else len(critics),
        loss_function=config.loss_function,
        alpha_init=config.alpha_init,
        min_alpha=config.min_alpha,
        max_alpha=config.max_alpha,
        fixed_alpha=config.fixed_alpha,
        target_entropy=config.target_entropy,
        action_spec=action_spec,
        delay_actor=config.delay_actor,
        delay_qvalue=config.delay_qvalue and not first,
        separate_losses=config.separate_losses,
        skip_done_states=config.skip_done_states,
        reduction=config.reduction,
        **version,
    )
    if not one and len(critics) == 1:
        # TorchRL stacks the parameters of a list, but registers no stack of one: without this an
        # optimizer would never see them.
        stack = loss.qvalue_network_params.apply(lambda p: nn.Parameter(p.detach().clone()))
        loss.qvalue_network_params = TensorDictParams(stack, no_convert=True)
    # Before anything is saved or loaded: both are part of the loss's state from here on.
    getattr(loss, "target_entropy", None)  # TorchRL makes the buffer when it is first asked for
    if getattr(loss, "_value_estimator", None) is None:  # else the loss has brought its own
        loss.make_value_estimator(*_ESTIMATORS[config.value_estimator], **_discounts(config))
    return loss


# TD(0) goes unnamed: it is what a loss makes by itself, and one of a user's may differ.
_OVER_TIME = (TD1Estimator, TDLambdaEstimator, GAE)
_KINDS_OVER_TIME = (ValueEstimators.TD1, ValueEstimators.TDLambda, ValueEstimators.GAE)
_ESTIMATORS = {"td0": (), "td1": (ValueEstimators.TD1,), "td_lambda": (ValueEstimators.TDLambda,)}


def _discounts(config: SACConfig) -> dict[str, float]:
    lmbda = {"lmbda": config.lmbda} if config.value_estimator == "td_lambda" else {}
    return {"gamma": config.gamma, **lmbda}


def make_optimizer(loss: nn.Module, config: SACConfig) -> Adam:
    """One Adam with a group, and a learning rate, each for actor, critics and alpha."""
    rates = {"actor": config.actor_lr, "critic": config.critic_lr, "alpha": config.alpha_lr}
    # Others may have laid hold of their parameters' memory.
    known = isinstance(loss, FastSACLoss)
    rates = {kind: rate or config.lr for kind, rate in rates.items()}
    return grouped_adam(loss, rates, flat=known)


class SACTrainer(Trainer):
    """The timetable of SAC.

    Args:
        collector: rollouts of transitions; its warm-up should be ``config.init_random_frames``.
        loss_module: a TorchRL ``SACLoss``, or any loss that learns from such transitions.
        optimizer: over the parameters of the loss.
        replay_buffer: any TorchRL replay buffer.
        total_frames: end of the run in frames.
        config: everything else, in numbers; without one, batches are of the buffer's own size. What
            the other arguments are built with (``lr``, ``exploration_noise``) is up to them.
        target_update: TorchRL's ``SoftUpdate`` or ``HardUpdate`` instead of the configured one.
    """

    def __init__(
        self,
        *,
        collector: Any,
        loss_module: Any,
        optimizer: Optimizer | Sequence[Optimizer],
        replay_buffer: ReplayBuffer,
        total_frames: int,
        config: SACConfig | None = None,
        target_update: TargetNetUpdater | None = None,
    ) -> None:
        own_batch_size = getattr(replay_buffer, "_batch_size", None) if config is None else None
        config = config or SACConfig()
        super().__init__(
            collector=collector,
            loss_module=loss_module,
            optimizer=optimizer,
            total_frames=total_frames,
            update_plan=UpdateRatio(config.utd_ratio, config.init_random_frames),
        )
        (phase,) = self.phases
        parameters = list(phase.parameters())
        device = parameters[0].device
        _check_estimator(loss_module, config)
        keys = getattr(loss_module, "tensor_keys", SACLoss.default_keys())
        replay = make_replay(
            replay_buffer, own_batch_size or config.batch_size, device, config, keys
        )

        on = self.register_hook
        on(Stage.POST_COLLECT, replay.extend)
        if config.lr_schedule == "linear":
            for index, each in enumerate(phase.optimizers):
                on(Stage.PROCESS_OPTIM_BATCH, AnnealLR(each), name=f"anneal_lr_{index}")
        if config.slice_length is not None:
            on(Stage.PROCESS_OPTIM_BATCH, Slices(replay, config.slice_length))
        else:
            on(Stage.PROCESS_OPTIM_BATCH, replay.sample)
        if config.n_steps > 1:
            gamma = _discount(loss_module, config)
            n_steps = NStepReturns(replay, config.n_steps, gamma, keys.reward, keys.done)
            on(Stage.PROCESS_OPTIM_BATCH, n_steps)
        if config.reduction == "none":
            on(Stage.POST_LOSS, MeanLosses())
        if config.max_grad_norm is not None:
            clip = ClipGradNorm(parameters, config.max_grad_norm)
            on(Stage.POST_BACKWARD, clip)
            on(Stage.POST_OPTIM, clip.log)
        if target_update is not None:
            on(Stage.POST_OPTIM, StepUpdater(target_update))
        elif _has_targets(loss_module):
            on(Stage.POST_OPTIM, make_target_update(loss_module, config))
        if isinstance(replay, PrioritizedReplay):
            on(Stage.POST_OPTIM, replay.update_priority)
        sync = WeightSync(collector)
        on(Stage.SETUP, sync)
        on(Stage.POST_STEPS, sync)


def make_replay(
    buffer: ReplayBuffer, batch_size: int, device: torch.device, config: SACConfig, keys: Any
) -> Replay:
    """Prioritized if the configuration or the buffer says so; ``keys`` are the loss's."""
    time_major = config.n_steps > 1 or config.slice_length is not None
    if not config.prioritized and not isinstance(buffer.sampler, PrioritizedSampler):
        return Replay(buffer, batch_size, device, time_major)
    return PrioritizedReplay(
        buffer,
        batch_size,
        device,
        time_major,
        beta=config.priority_beta,
        weight_key=keys.priority_weight,
        error_key=keys.priority,
    )


def make_target_update(loss: LossModule, config: SACConfig) -> TargetUpdate:
    """A moving average every update, or a copy every ``target_update_interval`` updates."""
    tau = config.tau if config.target_update == "soft" else 1.0
    return TargetUpdate(loss, tau, config.target_update_interval)


def _check_estimator(loss: Any, config: SACConfig) -> None:
    """TD(1) and TD(lambda) take the rows of a batch for steps in time: without slices, wrongly."""
    used = getattr(loss, "_value_estimator", None) or getattr(loss, "default_value_estimator", None)
    if config.slice_length is None and (isinstance(used, _OVER_TIME) or used in _KINDS_OVER_TIME):
        name = used.name if isinstance(used, ValueEstimators) else type(used).__name__
        hint = f"{name} follows episodes over time and would take unrelated transitions for one"
        raise ConfigError("algo.slice_length", None, "a whole number at least 2", hint)


def _discount(loss: Any, config: SACConfig) -> float:
    """The loss's own, where it has one."""
    return float(getattr(getattr(loss, "_value_estimator", None), "gamma", config.gamma))


def _has_targets(loss: Any) -> bool:
    return isinstance(loss, torch.nn.Module) and any(
        name.startswith("target_") for name, _ in loss.named_children()
    )

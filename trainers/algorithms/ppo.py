"""Proximal policy optimization: on-policy, epochs of minibatches, the policy's move held small.

Schulman et al. 2017, "Proximal Policy Optimization Algorithms", https://arxiv.org/abs/1707.06347.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import nn
from torch.optim import Adam, Optimizer
from torchrl.data import Bounded, Categorical, TensorSpec, Unbounded
from torchrl.objectives import ClipPPOLoss, KLPENPPOLoss, PPOLoss
from torchrl.objectives.value import TD0Estimator, TD1Estimator, TDLambdaEstimator

from trainers.advantages import GAE
from trainers.algorithms.common import grouped_adam
from trainers.config import NetworkConfig, PPOConfig
from trainers.hooks import (
    AdaptBeta,
    Advantage,
    AnnealBuffer,
    AnnealLR,
    ClipGradNorm,
    Minibatches,
    ScaleReward,
    StopEpochs,
    UpdateNormalizer,
    WeightSync,
    first_epoch,
)
from trainers.losses.ppo import FastClipPPOLoss, FastPPOLoss
from trainers.networks import action_head, mlp, orthogonal, stochastic_actor
from trainers.normalization import RunningNorm
from trainers.stages import Stage
from trainers.trainer import Trainer
from trainers.updates import Epochs

ACTION_SPACE = "a Box or Discrete"
# Buffers of the loss that are settings, no part of a run's state (as beta is).
SETTINGS = ("clip_epsilon", "clip_value", "entropy_coeff", "critic_coeff")
LOSSES = {"clip": ClipPPOLoss, "kl": KLPENPPOLoss, "plain": PPOLoss}
FAST_LOSSES = {"clip": FastClipPPOLoss, "plain": FastPPOLoss}


def accepts(action_spec: TensorSpec) -> bool:
    """PPO draws from a Gaussian or from a categorical distribution."""
    return isinstance(action_spec, (Bounded, Unbounded, Categorical))


class Networks(NamedTuple):
    """What PPO trains. On a shared trunk the value head reads what the actor's trunk wrote."""

    actor: Any
    value_head: TensorDictModule  # the critic, without a trunk that the actor has run already
    critic: TensorDictModule | TensorDictSequential  # observation -> state_value
    norm: RunningNorm | None


def make_networks(
    num_observations: int, action_spec: TensorSpec, network: NetworkConfig, config: PPOConfig
) -> Networks:
    """Actor and critic apart, or on one trunk, with orthogonal first weights."""
    norm = RunningNorm([num_observations]) if config.normalize_observation else None
    head = action_head(action_spec, config.predict_std, config.log_std_init)

    def body(num_outputs: int, last_gain: float) -> nn.Sequential:
        net = mlp(num_observations, num_outputs, network.hidden, network.activation)
        orthogonal(net, last_gain)
        return net if norm is None else nn.Sequential(norm, *net)

    if not config.shared_trunk:
        policy = nn.Sequential(body(head.num_inputs, 0.01), head)
        critic = TensorDictModule(body(1, 1.0), ["observation"], ["state_value"])
        return Networks(
            stochastic_actor(policy, ["observation"], action_spec), critic, critic, norm
        )
    layers = list(body(1, 1.0))[:-1]  # all but the last, which the heads have each for itself
    trunk = TensorDictModule(nn.Sequential(*layers), ["observation"], ["hidden"])
    last, value = (nn.Linear(network.hidden[-1], n) for n in (head.num_inputs, 1))
    orthogonal(last, 0.01)
    orthogonal(value, 1.0)
    value_head = TensorDictModule(value, ["hidden"], ["state_value"])
    actor = stochastic_actor(nn.Sequential(last, head), ["hidden"], action_spec, trunk)
    return Networks(actor, value_head, TensorDictSequential([trunk, value_head]), norm)


def make_loss(networks: Networks, config: PPOConfig, loss_class: Any = None) -> Any:
    """The loss with all of ``config``'s keywords; equations 6 to 9 of the paper."""
    names = (
        *("entropy_bonus", "entropy_coeff", "samples_mc_entropy", "critic_coeff"),
        *("loss_critic_type", "normalize_advantage", "separate_losses", "functional", "reduction"),
        *{
            "clip": ("clip_epsilon",),
            "kl": ("dtarg", "beta", "increment", "decrement", "samples_mc_kl"),
            "plain": (),
        }[config.loss],
    )
    keywords = {name: getattr(config, name) for name in names}
    keywords["clip_value"] = config.clip_value or None
    both = (networks.actor, networks.value_head)
    if loss_class is None:
        fast = FAST_LOSSES.get(config.loss)
        fits = fast is not None and fast.fits(*both, **keywords)
        loss_class = fast if fits else LOSSES[config.loss]
    return loss_class(*both, **keywords)


def make_value_estimator(critic: Any, config: PPOConfig) -> Any:
    """An estimator of advantages and value targets, TorchRL's but for the usual one."""
    common = {"gamma": config.gamma, "value_network": critic}
    kind, lmbda = config.value_estimator, config.gae_lambda
    if kind == "gae":
        return GAE(critic, config.gamma, lmbda)
    # To look one step ahead and no further is TD0; TorchRL's other two estimators fail on that.
    further = config.gamma * (lmbda if kind == "td_lambda" else 1.0)
    if kind == "td0" or further < 1e-6:
        return TD0Estimator(**common)
    if kind == "td1":
        return TD1Estimator(**common)
    return TDLambdaEstimator(lmbda=lmbda, **common)


def make_optimizer(loss: nn.Module, config: PPOConfig) -> Adam:
    """One Adam with a learning rate each for actor and critic; a shared trunk is the actor's."""
    rates = {"actor": config.actor_lr or config.lr, "critic": config.critic_lr or config.lr}
    # A functional loss holds on to the parameters' memory, and so may a user's.
    known = type(loss) in (*LOSSES.values(), *FAST_LOSSES.values())
    return grouped_adam(loss, rates, eps=1e-5, flat=known and not config.functional)


class PPOTrainer(Trainer):
    """The timetable of PPO.

    Args:
        collector: rollouts ``[..., T]``, ordered in time.
        loss_module: a TorchRL PPO loss, or any loss that learns from ``advantage`` and
            ``value_target``.
        optimizer: over the parameters of the loss.
        value_estimator: writes these two; default: the loss's own, with its own discount.
        total_frames: end of the run in frames.
        config: everything else, in numbers.
        normalizer: of the observations, in the networks; its statistics follow the rollouts.
    """

    def __init__(
        self,
        *,
        collector: Any,
        loss_module: Any,
        optimizer: Optimizer | Sequence[Optimizer],
        total_frames: int,
        value_estimator: Any = None,
        config: PPOConfig | None = None,
        normalizer: RunningNorm | None = None,
    ) -> None:
        config = config or PPOConfig()
        super().__init__(
            collector=collector,
            loss_module=loss_module,
            optimizer=optimizer,
            total_frames=total_frames,
            update_plan=Epochs(config.num_epochs, minibatch_size=config.minibatch_size),
        )
        (phase,) = self.phases
        advantage = Advantage(value_estimator or loss_module.value_estimator)

        on = self.register_hook
        if config.target_kl is not None:
            limit = StopEpochs(config.target_kl)
            on(Stage.PRE_EPOCH, limit.check)
            on(Stage.POST_OPTIM, limit.observe)
        if config.normalize_reward:
            on(Stage.PRE_EPOCH, ScaleReward(config.gamma), when=first_epoch)
        on(Stage.PRE_EPOCH, advantage, when=None if config.recompute_advantage else first_epoch)
        if config.clip_schedule == "linear":
            # True is by clip_epsilon, so one falls with the other.
            names = ["clip_epsilon"] + ["clip_value"] * (config.clip_value is True)
            for name in names:
                anneal = AnnealBuffer(getattr(loss_module, name), config.clip_epsilon)
                on(Stage.PRE_EPOCH, anneal, name=f"anneal_{name}")
        on(Stage.PROCESS_OPTIM_BATCH, Minibatches(config.minibatch_size))
        if config.lr_schedule == "linear":
            for index, each in enumerate(phase.optimizers):
                on(Stage.PROCESS_OPTIM_BATCH, AnnealLR(each), name=f"anneal_lr_{index}")
        if config.max_grad_norm is not None:
            clip = ClipGradNorm(phase.parameters(), config.max_grad_norm)
            on(Stage.POST_BACKWARD, clip)
            on(Stage.POST_OPTIM, clip.log)
        if isinstance(loss_module, KLPENPPOLoss):
            adapt = AdaptBeta(loss_module)
            on(Stage.POST_OPTIM, adapt.observe)
            on(Stage.POST_STEPS, adapt.adapt)
        if normalizer is not None:
            on(Stage.POST_STEPS, UpdateNormalizer(normalizer))
        sync = WeightSync(collector)
        on(Stage.SETUP, sync)
        on(Stage.POST_STEPS, sync)

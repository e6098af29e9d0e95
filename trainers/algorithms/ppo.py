"""Proximal policy optimization: on-policy, epochs of minibatches, the policy's move held small.

Schulman et al. 2017, "Proximal Policy Optimization Algorithms", https://arxiv.org/abs/1707.06347.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Adam
from torchrl.data import TensorSpec
from torchrl.objectives import ClipPPOLoss, KLPENPPOLoss, PPOLoss

from trainers.algorithms.common import BOX_OR_DISCRETE, Algorithm, chosen_loss
from trainers.algorithms.on_policy import (
    Agent,
    Networks,
    OnPolicyTrainer,
    actor_critic_adam,
    make_networks,
    make_value_estimator,
)
from trainers.config import NetworkConfig, PPOConfig
from trainers.hooks import AdaptBeta, AnnealBuffer, StopEpochs, TargetUpdate
from trainers.losses.ppo import FastClipPPOLoss, FastPPOLoss
from trainers.networks.cnn import Inputs
from trainers.stages import Stage
from trainers.updates import Epochs

LOSSES = {"clip": ClipPPOLoss, "kl": KLPENPPOLoss, "plain": PPOLoss}
FAST_LOSSES = {"clip": FastClipPPOLoss, "plain": FastPPOLoss}


def make_agent(
    inputs: Inputs, action_spec: TensorSpec, network: NetworkConfig, config: PPOConfig
) -> Agent:
    """Actor and critic, and the estimator of how much better than expected an action was."""
    networks = make_networks(inputs, action_spec, network, config)
    with chosen_loss(config.loss_module, None, LOSSES[config.loss]) as loss_class:
        loss = make_loss(networks, config, loss_class)
    estimator = make_value_estimator(networks.critic, config, networks.actor)
    optimizer = make_optimizer(loss, config)
    return Agent(networks, loss, optimizer, estimator.to(action_spec.device))


def make_loss(networks: Networks, config: PPOConfig, loss_class: Any = None) -> Any:
    """The loss with all of ``config``'s keywords; equations 6 to 9 of the paper."""
    names = (
        *("entropy_bonus", "entropy_coeff", "samples_mc_entropy", "critic_coeff"),
        *("loss_critic_type", "normalize_advantage", "separate_losses", "functional", "reduction"),
        *("max_importance_ratio", "delay_actor"),
        *{
            "clip": ("clip_epsilon",),
            "kl": ("dtarg", "beta", "increment", "decrement", "samples_mc_kl"),
            "plain": (),
        }[config.loss],
    )
    keywords = {name: getattr(config, name) for name in names}
    keywords["clip_value"] = config.clip_value or None
    if config.clip_epsilon_high is not None:
        keywords["clip_epsilon"] = (config.clip_epsilon, config.clip_epsilon_high)
    both = (networks.actor, networks.value_head)
    if loss_class is None:
        fast = FAST_LOSSES.get(config.loss)
        fits = fast is not None and fast.fits(*both, **keywords)
        loss_class = fast if fits else LOSSES[config.loss]
    return loss_class(*both, **keywords)


def make_optimizer(loss: nn.Module, config: PPOConfig) -> Adam:
    """One Adam with a learning rate each for actor and critic."""
    # A functional loss holds on to the parameters' memory, and so may a user's.
    known = type(loss) in (*LOSSES.values(), *FAST_LOSSES.values())
    return actor_critic_adam(loss, config, flat=known and not config.functional)


class PPOTrainer(OnPolicyTrainer):
    """The timetable of PPO: epochs of minibatches, and what keeps the policy's move small.

    Args:
        loss_module: a TorchRL PPO loss, or any loss that learns from ``advantage`` and
            ``value_target``.
        config: as in every :class:`OnPolicyTrainer`.
        given: all else that one takes.
    """

    config_class = PPOConfig

    def __init__(self, *, loss_module: Any, config: PPOConfig | None = None, **given: Any) -> None:
        config = config or PPOConfig()
        super().__init__(loss_module=loss_module, config=config, **given)
        on = self.register_hook
        if config.target_kl is not None:
            limit = StopEpochs(config.target_kl)
            on(Stage.PRE_EPOCH, limit.check)
            on(Stage.POST_OPTIM, limit.observe)
        if config.clip_schedule == "linear":
            for name, first in _clips(config).items():
                anneal = AnnealBuffer(getattr(loss_module, name), first)
                on(Stage.PRE_EPOCH, anneal, name=f"anneal_{name}")
        if config.delay_actor:
            on(Stage.POST_OPTIM, TargetUpdate(loss_module, config.tau))
        if isinstance(loss_module, KLPENPPOLoss):
            adapt = AdaptBeta(loss_module)
            on(Stage.POST_OPTIM, adapt.observe)
            on(Stage.POST_STEPS, adapt.adapt)

    def epochs(self, config: PPOConfig) -> Epochs:
        """Minibatches, several times over."""
        return Epochs(config.num_epochs, minibatch_size=config.minibatch_size)


def _clips(config: PPOConfig) -> dict[str, float]:
    """What the loss calls its bounds, and what they are at first."""
    low, high = config.clip_epsilon, config.clip_epsilon_high
    if high is not None:
        return {"clip_epsilon_low": low, "clip_epsilon_high": high}
    # True is by clip_epsilon, so one falls with the other.
    return {"clip_epsilon": low} | ({"clip_value": low} if config.clip_value is True else {})


PPO = Algorithm(
    make_agent,
    PPOTrainer,
    BOX_OR_DISCRETE,
    settings=(  # beta adapts
        *("clip_epsilon", "clip_epsilon_low", "clip_epsilon_high", "clip_value"),
        *("max_importance_ratio", "entropy_coeff", "critic_coeff"),
    ),
    sees_pictures=True,
)

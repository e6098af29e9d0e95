"""CrossQ: SAC with batch renormalisation, which makes target networks superfluous.

Bhatt et al. 2024, "CrossQ: Batch Normalization in Deep Reinforcement Learning for Greater Sample
Efficiency and Simplicity", https://arxiv.org/abs/1902.05605.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn
from torchrl.data import TensorSpec
from torchrl.modules import ProbabilisticActor
from torchrl.objectives import CrossQLoss

from trainers.algorithms import max_entropy
from trainers.algorithms.common import FINITE_BOX, Algorithm, chosen_loss
from trainers.algorithms.max_entropy import SETTINGS, DelayedPolicyTrainer, two_adams
from trainers.algorithms.off_policy import Agent
from trainers.config import CrossQConfig, NetworkConfig
from trainers.losses.crossq import SplitCrossQLoss
from trainers.networks.actors import ActingPolicy
from trainers.networks.batch_renorm import BatchRenorm, RenormActor
from trainers.networks.critics import make_critics


def make_agent(
    num_observations: int, action_spec: Any, network: NetworkConfig, config: CrossQConfig
) -> Agent:
    """A squashed Gaussian and critics, renormalised before their first layer and after the others.

    It acts by its running statistics.
    """
    device = action_spec.device
    norm = partial(BatchRenorm, momentum=config.renorm_momentum, warm_up=config.renorm_warm_up)
    widths = (network.hidden, network.activation)
    actor: Any = RenormActor(num_observations, action_spec, *widths, norm=norm)
    wide = replace(network, hidden=config.critic_hidden or network.hidden)
    sizes = (num_observations, action_spec.shape[-1])
    critics = make_critics(sizes, wide, config.num_critics, None, device, norm=norm)
    with chosen_loss(config.loss_module, SplitCrossQLoss, CrossQLoss) as loss_class:
        loss = make_loss(actor.to(device), critics, action_spec, config, loss_class)
    policy = ActingPolicy(actor)  # the loss trains these very parameters
    flat = isinstance(loss, SplitCrossQLoss)
    return Agent(policy, policy, loss, two_adams(loss, config, flat, config.beta1))


def make_loss(
    actor: ProbabilisticActor,
    critics: list[nn.Module],
    action_spec: TensorSpec,
    config: CrossQConfig,
    loss_class: Any = SplitCrossQLoss,
) -> Any:
    """The loss with all of ``config``'s keywords."""
    return max_entropy.make_loss(loss_class, actor, critics, config, action_spec=action_spec)


class CrossQTrainer(DelayedPolicyTrainer):
    """The timetable of CrossQ, which is that of every :class:`DelayedPolicyTrainer`."""

    config_class = CrossQConfig


CROSSQ = Algorithm(make_agent, CrossQTrainer, FINITE_BOX, SETTINGS)

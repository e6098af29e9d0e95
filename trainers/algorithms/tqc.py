"""Truncated quantile critics: SAC that knows how returns are spread, and drops the highest.

Kuznetsov et al. 2020, "Controlling Overestimation Bias with Truncated Mixture of Continuous
Distributional Quantile Critics", https://arxiv.org/abs/2005.04269.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn
from torchrl.data import TensorSpec
from torchrl.modules import ProbabilisticActor
from torchrl.objectives import TQCLoss

from trainers.algorithms import max_entropy
from trainers.algorithms.common import FINITE_BOX, Algorithm, chosen_loss
from trainers.algorithms.max_entropy import SETTINGS, one_adam
from trainers.algorithms.off_policy import Agent, OffPolicyTrainer
from trainers.config import NetworkConfig, TQCConfig
from trainers.losses.tqc import FastTQCLoss, LeanTQCLoss
from trainers.networks.acting import in_numpy
from trainers.networks.actors import ActingPolicy, TanhNormalActor
from trainers.networks.critics import make_critics


def make_agent(
    num_observations: int, action_spec: Any, network: NetworkConfig, config: TQCConfig
) -> Agent:
    """A squashed Gaussian and critics with several quantiles each."""
    device = action_spec.device
    actor: Any = TanhNormalActor(num_observations, action_spec, network.hidden, network.activation)
    wide = replace(network, hidden=config.critic_hidden or network.hidden)
    sizes = (num_observations, action_spec.shape[-1])
    critics = make_critics(
        sizes, wide, config.num_critics, None, device, num_outputs=config.num_quantiles
    )
    own = FastTQCLoss if FastTQCLoss.fits(actor, critics, config) else LeanTQCLoss
    with chosen_loss(config.loss_module, own, TQCLoss) as loss_class:
        loss = make_loss(actor.to(device), critics, action_spec, config, loss_class)
    policy = in_numpy(ActingPolicy(actor))  # the loss trains these very parameters
    optimizer = one_adam(loss, config, flat=isinstance(loss, (FastTQCLoss, LeanTQCLoss)))
    return Agent(policy, policy, loss, optimizer)


def make_loss(
    actor: ProbabilisticActor,
    critics: list[nn.Module],
    action_spec: TensorSpec,
    config: TQCConfig,
    loss_class: Any = TQCLoss,
) -> Any:
    """The loss with all of ``config``'s keywords; equations 8 to 12 of the paper."""
    return max_entropy.make_loss(
        loss_class,
        actor,
        critics,
        config,
        action_spec=action_spec,
        top_quantiles_to_drop_per_net=config.top_quantiles_to_drop,
    )


class TQCTrainer(OffPolicyTrainer):
    """The timetable of TQC, which is that of every :class:`OffPolicyTrainer`."""

    config_class = TQCConfig


TQC = Algorithm(make_agent, TQCTrainer, FINITE_BOX, SETTINGS)

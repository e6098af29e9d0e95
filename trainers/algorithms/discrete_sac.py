"""Soft actor-critic for discrete actions: expectations over all of them instead of samples.

Christodoulou 2019, "Soft Actor-Critic for Discrete Action Settings", https://arxiv.org/abs/1910.07207.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torchrl.modules import ValueOperator
from torchrl.objectives import DiscreteSACLoss

from trainers.algorithms import max_entropy
from trainers.algorithms.common import DISCRETE, Algorithm, chosen_loss
from trainers.algorithms.max_entropy import SETTINGS, one_adam
from trainers.algorithms.off_policy import Agent, OffPolicyTrainer
from trainers.config import DiscreteSACConfig, NetworkConfig
from trainers.losses.discrete_sac import FastDiscreteSACLoss
from trainers.networks.acting import in_numpy
from trainers.networks.actors import ActingPolicy, CategoricalActor
from trainers.networks.critics import StateValue


def make_agent(
    num_observations: int, action_spec: Any, network: NetworkConfig, config: DiscreteSACConfig
) -> Agent:
    """A categorical policy and critics with a value for every action, all of the same widths."""
    device, widths = action_spec.device, (network.hidden, network.activation)
    actor: Any = CategoricalActor(num_observations, action_spec, *widths).to(device)
    critics = [
        ValueOperator(
            StateValue(num_observations, *widths, action_spec.n).to(device),
            ["observation"],
            ["action_value"],
        )
        for _ in range(config.num_critics)
    ]
    with chosen_loss(config.loss_module, FastDiscreteSACLoss, DiscreteSACLoss) as loss_class:
        loss = make_loss(actor, critics, config, loss_class)
    policy = in_numpy(ActingPolicy(actor))  # the loss trains these very parameters
    optimizer = one_adam(loss, config, flat=isinstance(loss, FastDiscreteSACLoss))
    return Agent(policy, policy, loss, optimizer)


def make_loss(
    actor: CategoricalActor,
    critics: Sequence[nn.Module],
    config: DiscreteSACConfig,
    loss_class: Any = DiscreteSACLoss,
) -> Any:
    """The loss with all of ``config``'s keywords; equations 10 to 12 of the paper."""
    return max_entropy.make_loss(
        loss_class,
        actor,
        critics,
        config,
        action_space="categorical",
        num_actions=actor.num_actions,
    )


class DiscreteSACTrainer(OffPolicyTrainer):
    """The timetable of discrete SAC, which is that of every :class:`OffPolicyTrainer`."""

    config_class = DiscreteSACConfig


DISCRETE_SAC = Algorithm(make_agent, DiscreteSACTrainer, DISCRETE, SETTINGS)

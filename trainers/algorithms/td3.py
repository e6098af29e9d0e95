"""Twin delayed deep deterministic policy gradient: DDPG that overestimates less.

Fujimoto et al. 2018, "Addressing Function Approximation Error in Actor-Critic Methods",
https://arxiv.org/abs/1802.09477: the least of two critics' values, an actor that steps less often,
and targets smoothed over actions near the target policy's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torchrl.data import TensorSpec
from torchrl.objectives import TD3Loss

from trainers.algorithms.common import FINITE_BOX, Algorithm, chosen_loss
from trainers.algorithms.ddpg import agent_of, critics_and_actor, make_networks
from trainers.algorithms.off_policy import (
    Agent,
    OffPolicyTrainer,
    make_estimator,
    register_critics,
)
from trainers.config import NetworkConfig, TD3Config
from trainers.losses.fast_td3 import FastTD3Loss, fits
from trainers.networks.actors import center_and_half_range
from trainers.phases import Phase


def make_agent(
    num_observations: int, action_spec: Any, network: NetworkConfig, config: TD3Config
) -> Agent:
    """A squashed network and critics, all of the same widths."""
    actor, critics = make_networks(
        num_observations, action_spec, network, config.critic, config.num_critics
    )
    own = FastTD3Loss if fits(actor, critics, config) else TD3Loss
    with chosen_loss(config.loss_module, own, TD3Loss) as loss_class:
        loss = make_loss(actor, critics, action_spec, config, loss_class)
    return agent_of(actor, loss, action_spec, config)


def make_loss(
    actor: nn.Module,
    critics: Sequence[nn.Module],
    action_spec: TensorSpec,
    config: TD3Config,
    loss_class: Any = TD3Loss,
) -> Any:
    """The loss with all of ``config``'s keywords; algorithm 1 of the paper."""
    # TorchRL adds the noise to actions in their own bounds; ours counts in [-1, 1].
    _, half_range = center_and_half_range(action_spec)
    loss = loss_class(
        actor,
        list(critics),
        action_spec=action_spec,
        num_qvalue_nets=len(critics),
        policy_noise=config.policy_noise * half_range,
        noise_clip=config.noise_clip * half_range,
        loss_function=config.loss_function,
        delay_actor=config.delay_actor,
        delay_qvalue=config.delay_qvalue,
        separate_losses=config.separate_losses,
        reduction=config.reduction,
    )
    register_critics(loss)
    make_estimator(loss, config)
    return loss


class TD3Trainer(OffPolicyTrainer):
    """The timetable of TD3: the actor steps in every ``config.policy_delay``-th update.

    ``optimizer`` is a pair: of the critics' parameters, and of the actor's.
    """

    config_class = TD3Config

    def make_phases(self, loss_module: Any, optimizer: Any, config: Any) -> list[Phase]:
        """Two, which share the loss."""
        return critics_and_actor(loss_module, optimizer, config.policy_delay)


TD3 = Algorithm(make_agent, TD3Trainer, FINITE_BOX, settings=("gamma", "lmbda"))

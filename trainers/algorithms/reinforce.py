"""REINFORCE: on-policy, actions by what followed them until the episode's end.

Williams 1992, "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement
Learning", https://doi.org/10.1007/BF00992696. As usual, a late action counts as much as an early
one: returns are discounted from the action on, not from the episode's beginning.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Adam
from torchrl.data import TensorSpec

from trainers.algorithms.common import BOX_OR_DISCRETE, Algorithm, chosen_loss
from trainers.algorithms.on_policy import (
    Agent,
    Networks,
    OnPolicyTrainer,
    actor_critic_adam,
    make_networks,
    make_value_estimator,
)
from trainers.config import NetworkConfig, ReinforceConfig
from trainers.hooks import WholeEpisodes
from trainers.losses.reinforce import BaselineReinforceLoss, PolicyGradientLoss
from trainers.networks.cnn import Inputs


def make_agent(
    inputs: Inputs, action_spec: TensorSpec, network: NetworkConfig, config: ReinforceConfig
) -> Agent:
    """Actor and, with a baseline, critic and estimator."""
    networks = make_networks(inputs, action_spec, network, config)
    own = BaselineReinforceLoss if config.baseline else PolicyGradientLoss
    with chosen_loss(config.loss_module, own, BaselineReinforceLoss) as loss_class:
        loss = make_loss(networks, config, loss_class)
    estimator = None
    if config.baseline:
        estimator = make_value_estimator(networks.critic, config, networks.actor)
        estimator.to(action_spec.device)
    return Agent(networks, loss, make_optimizer(loss, config), estimator)


def make_loss(networks: Networks, config: ReinforceConfig, loss_class: Any) -> Any:
    """The loss with all of ``config``'s keywords; the episodic algorithm of the paper."""
    if not config.baseline:
        return loss_class(networks.actor, reduction=config.reduction)
    names = ("loss_critic_type", "separate_losses", "functional", "reduction")
    keywords = {name: getattr(config, name) for name in names}
    return loss_class(networks.actor, networks.critic, **keywords)


def make_optimizer(loss: nn.Module, config: ReinforceConfig) -> Adam:
    """One Adam with a learning rate each for actor and critic."""
    # A functional loss holds on to the parameters' memory, and so may a user's.
    known = type(loss) in (BaselineReinforceLoss, PolicyGradientLoss)
    return actor_critic_adam(loss, config, flat=known and not config.functional)


class ReinforceTrainer(OnPolicyTrainer):
    """The timetable of REINFORCE: an update on each rollout.

    With a baseline, returns go on from the critic's value where a rollout or a time limit cuts
    through an episode. Without one, frames wait until their episode has ended.
    """

    config_class = ReinforceConfig

    def make_advantage(self, loss_module: Any, value_estimator: Any, config: Any) -> Any:
        """Without a critic the return itself."""
        if config.baseline:
            return super().make_advantage(loss_module, value_estimator, config)
        return WholeEpisodes(config.gamma)


REINFORCE = Algorithm(
    make_agent, ReinforceTrainer, BOX_OR_DISCRETE, settings=(), sees_pictures=True
)

"""Advantage actor-critic: on-policy, one update on each short rollout of several environments.

Mnih et al. 2016, "Asynchronous Methods for Deep Reinforcement Learning",
https://arxiv.org/abs/1602.01783, with all environments in step.
"""

from __future__ import annotations

from torch import nn
from torch.optim import Optimizer, RMSprop
from torchrl.data import TensorSpec
from torchrl.objectives import A2CLoss

from trainers.algorithms.common import (
    BOX_OR_DISCRETE,
    Algorithm,
    chosen_loss,
    parameter_groups,
)
from trainers.algorithms.on_policy import (
    Agent,
    Networks,
    OnPolicyTrainer,
    actor_critic_adam,
    learning_rates,
    make_networks,
    make_value_estimator,
)
from trainers.config import A2CConfig, NetworkConfig
from trainers.losses.a2c import FastA2CLoss
from trainers.networks.cnn import Inputs


def make_agent(
    inputs: Inputs, action_spec: TensorSpec, network: NetworkConfig, config: A2CConfig
) -> Agent:
    """Actor and critic, and the estimator of how much better than expected an action was."""
    networks = make_networks(inputs, action_spec, network, config)
    with chosen_loss(config.loss_module, None, A2CLoss) as loss_class:
        loss = make_loss(networks, config, loss_class)
    estimator = make_value_estimator(networks.critic, config, networks.actor)
    optimizer = make_optimizer(loss, config)
    return Agent(networks, loss, optimizer, estimator.to(action_spec.device))


def make_loss(
    networks: Networks, config: A2CConfig, loss_class: type[A2CLoss] | None = None
) -> A2CLoss:
    """The loss with all of ``config``'s keywords; section 4 of the paper, algorithm S3."""
    names = (
        *("entropy_coeff", "samples_mc_entropy", "critic_coeff", "loss_critic_type"),
        *("separate_losses", "functional", "reduction"),
    )
    keywords = {name: getattr(config, name) for name in names}
    # The whole critic: on a shared trunk TorchRL's loss would have its head read what the trunk
    # wrote when the frame was collected, and not train the trunk.
    both = (networks.actor, networks.critic)
    if loss_class is None:
        loss_class = FastA2CLoss if FastA2CLoss.fits(*both, **keywords) else A2CLoss
    return loss_class(*both, **keywords)


def make_optimizer(loss: nn.Module, config: A2CConfig) -> Optimizer:
    """With a learning rate each for actor and critic."""
    if config.optimizer == "rmsprop":
        groups = parameter_groups(loss, learning_rates(config))
        return RMSprop(groups, alpha=0.99, eps=1e-5)  # OpenAI Baselines'
    # A functional loss holds on to the parameters' memory, and so may a user's.
    known = type(loss) in (A2CLoss, FastA2CLoss)
    return actor_critic_adam(loss, config, flat=known and not config.functional)


class A2CTrainer(OnPolicyTrainer):
    """The timetable of A2C, which is that of every :class:`OnPolicyTrainer`."""

    config_class = A2CConfig


A2C = Algorithm(
    make_agent,
    A2CTrainer,
    BOX_OR_DISCRETE,
    settings=("entropy_coeff", "critic_coeff"),
    sees_pictures=True,
)

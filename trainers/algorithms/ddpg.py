"""Deep deterministic policy gradient: off-policy, a deterministic actor, continuous actions.

Lillicrap et al. 2016, "Continuous control with deep reinforcement learning",
https://arxiv.org/abs/1509.02971.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn
from torch.optim import Adam, Optimizer
from torchrl.objectives import DDPGLoss

from trainers.algorithms.common import (
    FINITE_BOX,
    Algorithm,
    chosen_loss,
    make_adam,
    parameter_groups,
)
from trainers.algorithms.off_policy import Agent, OffPolicyTrainer, make_estimator
from trainers.collection.exploration import GaussianNoise, OrnsteinUhlenbeck
from trainers.config import ConfigError, DDPGConfig, NetworkConfig
from trainers.losses.deterministic import actor_part, critics_part
from trainers.losses.fast_td3 import FastDDPGLoss, FastTD3Loss, fits
from trainers.networks.acting import in_numpy
from trainers.networks.actors import ActingPolicy, TanhActor
from trainers.networks.critics import make_critics
from trainers.phases import Phase


def make_agent(
    num_observations: int, action_spec: Any, network: NetworkConfig, config: DDPGConfig
) -> Agent:
    """A squashed network and a critic of the same widths."""
    actor, critics = make_networks(num_observations, action_spec, network, config.critic, 1)
    if len(critics) != 1:
        allowed = "one critic: several are for algo=td3"
        raise ConfigError("algo.critic", config.critic, allowed, f"it makes {len(critics)}")
    own = FastDDPGLoss if fits(actor, critics, config) else DDPGLoss
    with chosen_loss(config.loss_module, own, DDPGLoss) as loss_class:
        loss = make_loss(actor, critics[0], config, loss_class)
    return agent_of(actor, loss, action_spec, config)


def make_networks(
    num_observations: int, action_spec: Any, network: NetworkConfig, critic: str | None, number: int
) -> tuple[TanhActor, list[nn.Module]]:
    """The actor, and so many critics: shipped ones, or by a plugin's name."""
    device = action_spec.device
    widths = (network.hidden, network.activation)
    actor = TanhActor(num_observations, action_spec, *widths).to(device)
    sizes = (num_observations, action_spec.shape[-1])
    return actor, make_critics(sizes, network, number, critic, device)


def make_loss(
    actor: nn.Module, critic: nn.Module, config: DDPGConfig, loss_class: Any = DDPGLoss
) -> Any:
    """The loss with all of ``config``'s keywords; equations 4 to 6 of the paper."""
    loss = loss_class(
        actor,
        critic,
        loss_function=config.loss_function,
        delay_actor=config.delay_actor,
        delay_value=config.delay_qvalue,
        separate_losses=config.separate_losses,
        reduction=config.reduction,
    )
    make_estimator(loss, config)
    return loss


def agent_of(actor: TanhActor, loss: Any, action_spec: Any, config: DDPGConfig) -> Agent:
    """What acts, with and without noise, and what is trained."""
    policy = in_numpy(ActingPolicy(actor))  # the loss trains these very parameters
    strength = config.exploration_noise
    if config.noise == "gaussian":
        explorer: nn.Module = GaussianNoise(policy, action_spec, strength)
    else:
        noise = (config.noise_theta, config.noise_dt)
        explorer = OrnsteinUhlenbeck(policy, action_spec, strength, *noise)
    return Agent(policy, explorer, loss, make_optimizers(loss, config))


def make_optimizers(loss: nn.Module, config: DDPGConfig) -> list[Adam]:
    """The critics' Adam, and the actor's."""
    rates = {"critic": config.critic_lr or config.lr, "actor": config.actor_lr or config.lr}
    # Others may have laid hold of their parameters' memory.
    known = isinstance(loss, (FastDDPGLoss, FastTD3Loss))
    return [make_adam([group], flat=known) for group in parameter_groups(loss, rates)]


class DDPGTrainer(OffPolicyTrainer):
    """The timetable of DDPG: in every update a step of the critic, then one of the actor.

    ``optimizer`` is a pair: of the critic's parameters, and of the actor's.
    """

    config_class = DDPGConfig

    def make_phases(self, loss_module: Any, optimizer: Any, config: Any) -> list[Phase]:
        """Two, which share the loss."""
        return critics_and_actor(loss_module, optimizer)


def critics_and_actor(
    loss: Any, optimizers: Sequence[Optimizer], actor_every: int = 1
) -> list[Phase]:
    """A phase of the critics, and one of the actor in every ``actor_every``-th update.

    Raises:
        TypeError: ``optimizers`` is no pair.
    """
    if not isinstance(optimizers, Sequence) or len(optimizers) != 2:
        allowed = "optimizer must be a pair, of the critics' parameters and of the actor's"
        raise TypeError(f"{allowed}: they step one after the other; got {optimizers!r}")
    of_critics, of_actor = optimizers
    return [
        Phase(loss, of_critics, part=partial(critics_part, loss), name="critic"),
        Phase(loss, of_actor, actor_every, partial(actor_part, loss), name="actor"),
    ]


DDPG = Algorithm(make_agent, DDPGTrainer, FINITE_BOX, settings=("gamma", "lmbda"))

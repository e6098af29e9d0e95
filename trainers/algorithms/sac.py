"""Soft actor-critic: off-policy, maximum entropy, continuous actions.

Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications", https://arxiv.org/abs/1812.05905;
with a value network their first version, "Soft Actor-Critic", https://arxiv.org/abs/1801.01290.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.optim import Adam
from torchrl.data import TensorSpec
from torchrl.modules import ProbabilisticActor, ValueOperator
from torchrl.objectives import SACLoss

from trainers.algorithms import max_entropy
from trainers.algorithms.common import FINITE_BOX, Algorithm, chosen_loss
from trainers.algorithms.max_entropy import SETTINGS, one_adam
from trainers.algorithms.off_policy import Agent, OffPolicyTrainer
from trainers.collection.exploration import GaussianNoise
from trainers.config import NetworkConfig, SACConfig
from trainers.losses.fast_sac import FastSACLoss
from trainers.losses.sac import CriticwiseSACLoss
from trainers.networks.acting import in_numpy
from trainers.networks.actors import ActingPolicy, TanhNormalActor
from trainers.networks.critics import StateValue, make_critics


def make_agent(
    num_observations: int, action_spec: Any, network: NetworkConfig, config: SACConfig
) -> Agent:
    """A squashed Gaussian and critics, all of the same widths."""
    device = action_spec.device
    widths = (network.hidden, network.activation)
    actor = TanhNormalActor(num_observations, action_spec, *widths)
    actor.to(device)
    sizes = (num_observations, action_spec.shape[-1])
    critics = make_critics(sizes, network, config.num_critics, config.critic, device)
    value = None
    if config.value_network:
        value = ValueOperator(StateValue(num_observations, *widths).to(device), ["observation"])
    fast = FastSACLoss.fits(actor, critics, config)
    own = FastSACLoss if fast else CriticwiseSACLoss
    with chosen_loss(config.loss_module, own, SACLoss) as loss_class:
        loss = make_loss(actor, critics, action_spec, config, loss_class, value)
    policy = in_numpy(ActingPolicy(actor))  # the loss trains these very parameters
    noise = config.exploration_noise
    explorer = GaussianNoise(policy, action_spec, noise) if noise > 0 else policy
    return Agent(policy, explorer, loss, make_optimizer(loss, config))


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
    own: dict[str, Any] = {"action_spec": action_spec}
    if value_network is not None:
        own |= {"value_network": value_network, "delay_value": config.delay_qvalue}
        own["delay_qvalue"] = False
    return max_entropy.make_loss(loss_class, actor, critics, config, **own)


def make_optimizer(loss: nn.Module, config: SACConfig) -> Adam:
    """One Adam with a group, and a learning rate, each for actor, critics and alpha."""
    # Others may have laid hold of their parameters' memory.
    return one_adam(loss, config, flat=isinstance(loss, FastSACLoss))


class SACTrainer(OffPolicyTrainer):
    """The timetable of SAC, which is that of every :class:`OffPolicyTrainer`."""

    config_class = SACConfig


SAC = Algorithm(make_agent, SACTrainer, FINITE_BOX, SETTINGS)

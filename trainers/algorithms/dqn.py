"""Deep Q-learning: off-policy, discrete actions, epsilon-greedy.

Mnih et al. 2015, "Human-level control through deep reinforcement learning", Nature 518; double
Q-learning by van Hasselt et al. 2016, https://arxiv.org/abs/1509.06461; duelling networks by
Wang et al. 2016, https://arxiv.org/abs/1511.06581.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Adam
from torchrl.modules import QValueActor
from torchrl.objectives import DQNLoss

from trainers.algorithms.common import DISCRETE, Algorithm, chosen_loss, grouped_adam
from trainers.algorithms.off_policy import Agent, OffPolicyTrainer, make_estimator
from trainers.collection.exploration import EpsilonGreedy
from trainers.config import DQNConfig, NetworkConfig
from trainers.config.dqn import EpsilonGreedyConfig
from trainers.hooks import AnnealEpsilon
from trainers.losses.dqn import FastDQNLoss, LeanDQNLoss
from trainers.networks.acting import in_numpy
from trainers.networks.cnn import Inputs
from trainers.networks.q_networks import GreedyPolicy, QNetwork
from trainers.stages import Stage


def make_agent(
    inputs: Inputs, action_spec: Any, network: NetworkConfig, config: DQNConfig
) -> Agent:
    """A network of the values of all actions; the policy takes the largest."""
    widths = (network.hidden, network.activation)
    q_network = QNetwork(inputs, action_spec.n, *widths, config.duelling)
    q_network.to(action_spec.device)
    own = FastDQNLoss if FastDQNLoss.fits(q_network, config) else LeanDQNLoss
    with chosen_loss(config.loss_module, own, DQNLoss) as loss_class:
        loss = make_loss(q_network, action_spec, config, loss_class)
    policy = in_numpy(GreedyPolicy(q_network))  # the loss trains these very parameters
    explorer = EpsilonGreedy(policy, action_spec.n, config.epsilon_start)
    optimizer = make_optimizer(loss, config, flat=isinstance(loss, LeanDQNLoss))
    return Agent(policy, explorer, loss, optimizer)


def make_loss(
    q_network: nn.Module, action_spec: Any, config: DQNConfig, loss_class: Any = DQNLoss
) -> Any:
    """The loss with all of ``config``'s keywords, of a network ``[..., n] -> [..., actions]``."""
    loss = loss_class(
        QValueActor(q_network, spec=action_spec),
        loss_function=config.loss_function,
        delay_value=config.delay_value,
        double_dqn=config.double,
        reduction=config.reduction,
    )
    make_estimator(loss, config)
    return loss


def make_optimizer(loss: nn.Module, config: EpsilonGreedyConfig, flat: bool = False) -> Adam:
    """One Adam; ``flat`` only where nobody else has laid hold of the parameters' memory."""
    return grouped_adam(loss, {"value": config.lr}, "value", config.adam_eps, flat)


class DQNTrainer(OffPolicyTrainer):
    """The timetable of every :class:`OffPolicyTrainer`, and an epsilon that falls.

    Args:
        collector: as there; the epsilon is that of its ``policy``, if it is an
            :class:`~trainers.collection.exploration.EpsilonGreedy`.
        config: as there.
        given: all else that an :class:`OffPolicyTrainer` takes.
    """

    config_class = DQNConfig

    def __init__(self, *, collector: Any, config: Any = None, **given: Any) -> None:
        super().__init__(collector=collector, config=config, **given)
        config = config or self.config_class()
        explorer = getattr(collector, "policy", None)
        if isinstance(explorer, EpsilonGreedy):
            line = (config.epsilon_start, config.epsilon_end, config.exploration_fraction)
            anneal = AnnealEpsilon(explorer, *line)
            self.register_hook(Stage.SETUP, anneal)
            self.register_hook(Stage.POST_STEPS, anneal)


DQN = Algorithm(make_agent, DQNTrainer, DISCRETE, settings=("gamma", "lmbda"), sees_pictures=True)

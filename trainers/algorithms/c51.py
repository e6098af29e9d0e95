"""Categorical DQN: learns the distribution of returns, and acts by its mean.

Bellemare et al. 2017, "A Distributional Perspective on Reinforcement Learning",
https://arxiv.org/abs/1707.06887; as in TorchRL always double: the network picks the next action,
its target has the distribution (van Hasselt et al. 2016, https://arxiv.org/abs/1509.06461).
"""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torchrl.modules import DistributionalQValueActor
from torchrl.objectives import DistributionalDQNLoss

from trainers.algorithms.common import DISCRETE, Algorithm, chosen_loss
from trainers.algorithms.dqn import DQNTrainer, make_optimizer
from trainers.algorithms.off_policy import Agent
from trainers.collection.exploration import EpsilonGreedy
from trainers.config import C51Config, ConfigError, NetworkConfig, TrainConfig
from trainers.environments.envs import Envs
from trainers.hooks import WatchSupport
from trainers.hooks.value_support import discounted_returns
from trainers.losses.c51 import FastC51Loss, LeanC51Loss
from trainers.networks.acting import in_numpy
from trainers.networks.cnn import Inputs
from trainers.networks.q_networks import GreedyPolicy, QNetwork
from trainers.seeding import EVALUATION, episode_seed, own_randomness
from trainers.stages import Stage

_LOOK = 1_000  # steps


def make_agent(
    inputs: Inputs, action_spec: Any, network: NetworkConfig, config: C51Config
) -> Agent:
    """A network of the distributions of all actions; the policy takes the one of largest mean."""
    device = action_spec.device
    shape = (inputs, action_spec.n, network.hidden, network.activation)
    q_network = QNetwork(*shape, config.duelling, config.num_atoms).to(device)
    support = torch.linspace(config.v_min, config.v_max, config.num_atoms, device=device)
    own = FastC51Loss if FastC51Loss.fits(q_network, config) else LeanC51Loss
    with chosen_loss(config.loss_module, own, DistributionalDQNLoss) as loss_class:
        loss = make_loss(q_network, support, action_spec, config, loss_class)
    policy = in_numpy(GreedyPolicy(q_network, support))  # the loss trains these very parameters
    explorer = EpsilonGreedy(policy, action_spec.n, config.epsilon_start)
    optimizer = make_optimizer(loss, config, flat=isinstance(loss, LeanC51Loss))
    return Agent(policy, explorer, loss, optimizer)


def make_loss(
    q_network: nn.Module,
    support: Tensor,
    action_spec: Any,
    config: C51Config,
    loss_class: Any = DistributionalDQNLoss,
) -> Any:
    """The loss with all of ``config``'s keywords, of a network to logits ``[..., atoms, n]``."""
    return loss_class(
        DistributionalQValueActor(q_network, support, spec=action_spec),
        gamma=config.gamma,
        delay_value=config.delay_value,
        reduction=config.reduction,
    )


class C51Trainer(DQNTrainer):
    """The timetable of :class:`DQNTrainer`, and an eye on the support.

    Args:
        given: as there.
    """

    config_class = C51Config

    def __init__(self, *, config: Any = None, **given: Any) -> None:
        super().__init__(config=config, **given)
        config = config or self.config_class()
        watch = WatchSupport(config.v_min, config.v_max, config.gamma)
        self.register_hook(Stage.POST_COLLECT, watch)


def check_support(config: TrainConfig) -> None:
    """Play episodes at random, and look whether their returns are in the support.

    What an environment pays is written nowhere. Where a better policy gets more than these episodes
    did, :class:`~trainers.hooks.WatchSupport` sees it in the run.

    Raises:
        ConfigError: they are not.
    """
    algo: Any = config.algo
    episodes = [discounted_returns(each, algo.gamma) for each in _random_rewards(config)]
    low = min((float(each.min()) for each in episodes), default=algo.v_min)
    high = max((float(each.max()) for each in episodes), default=algo.v_max)
    why = "random actions have that discounted return, and a policy that has learnt may go beyond"
    if low < algo.v_min:
        raise ConfigError("algo.v_min", algo.v_min, f"at most {math.floor(low)}", why)
    if high > algo.v_max:
        raise ConfigError("algo.v_max", algo.v_max, f"at least {math.ceil(high)}", why)


def _random_rewards(config: TrainConfig) -> list[list[float]]:
    """Of episodes in an environment of its own; the random state stays as it was.

    They are the same for all of a configuration's seeds, so that none is refused what others may.
    """
    episodes: list[list[float]] = []
    env = replace(config.env, backend="sync")
    with own_randomness(0), closing(Envs(env, 1)) as envs:
        try:
            ended = True
            for _ in range(_LOOK):
                if ended:
                    envs.reset([episode_seed(0, EVALUATION, len(episodes))])
                    episodes.append([])
                action: Any = envs.action_spec.rand(torch.Size([1]))
                _, reward, terminated, truncated = envs.step(action.numpy())
                episodes[-1].append(float(envs.lesson(reward, terminated)[0][0]))
                ended = bool(terminated[0] or truncated[0])
        except Exception:  # the run will meet it, and tell of it
            return []
    return episodes


C51 = Algorithm(
    make_agent,
    C51Trainer,
    DISCRETE,
    settings=("gamma", "support"),
    check=check_support,
    sees_pictures=True,
)

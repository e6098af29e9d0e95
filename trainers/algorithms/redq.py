"""Randomized ensembled double Q-learning: many updates a frame, borne by many critics.

Chen et al. 2021, "Randomized Ensembled Double Q-Learning: Learning Fast Without a Model",
https://arxiv.org/abs/2101.05982.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torchrl.data import TensorSpec
from torchrl.modules import ProbabilisticActor
from torchrl.objectives import REDQLoss

from trainers.algorithms import max_entropy
from trainers.algorithms.common import FINITE_BOX, Algorithm, chosen_loss
from trainers.algorithms.max_entropy import SETTINGS, DelayedPolicyTrainer, two_adams
from trainers.algorithms.off_policy import Agent
from trainers.config import ConfigError, NetworkConfig, REDQConfig
from trainers.losses.parts import InParts
from trainers.losses.redq import SplitREDQLoss
from trainers.networks.acting import in_numpy
from trainers.networks.actors import ActingPolicy, TanhNormalActor
from trainers.networks.critics import make_critics
from trainers.phases import Phase


def make_agent(
    num_observations: int, action_spec: Any, network: NetworkConfig, config: REDQConfig
) -> Agent:
    """A squashed Gaussian and critics, all of the same widths."""
    device = action_spec.device
    actor: Any = TanhNormalActor(num_observations, action_spec, network.hidden, network.activation)
    sizes = (num_observations, action_spec.shape[-1])
    critics = make_critics(sizes, network, config.num_critics, config.critic, device)
    with chosen_loss(config.loss_module, SplitREDQLoss, REDQLoss) as loss_class:
        loss = make_loss(actor.to(device), critics, action_spec, config, loss_class)
    policy = in_numpy(ActingPolicy(actor))  # the loss trains these very parameters
    optimizers = two_adams(loss, config, flat=isinstance(loss, SplitREDQLoss))
    return Agent(policy, policy, loss, optimizers)


def make_loss(
    actor: ProbabilisticActor,
    critics: list[nn.Module],
    action_spec: TensorSpec,
    config: REDQConfig,
    loss_class: Any = SplitREDQLoss,
) -> Any:
    """The loss with all of ``config``'s keywords; algorithm 1 of the paper.

    Raises:
        ConfigError: TorchRL's loss would take a smaller subset than was asked for.
    """
    loss = max_entropy.make_loss(
        loss_class,
        actor,
        critics,
        config,
        action_spec=action_spec,
        sub_sample_len=config.subset_size,
        # TorchRL's has no way to say that there is none, and its defaults are 0.1 and 10.
        min_alpha=config.min_alpha or 0.0,
        max_alpha=config.max_alpha or math.inf,
    )
    if getattr(loss, "sub_sample_len", config.subset_size) != config.subset_size:
        hint = f"{type(loss).__name__} never takes all of the {len(critics)} critics"
        allowed = f"at most {loss.sub_sample_len}"
        raise ConfigError("algo.subset_size", config.subset_size, allowed, hint)
    return loss


class REDQTrainer(DelayedPolicyTrainer):
    """The timetable of REDQ, which is that of every :class:`DelayedPolicyTrainer`."""

    config_class = REDQConfig

    def make_phases(
        self, loss_module: Any, optimizer: Optimizer | Sequence[Optimizer], config: Any
    ) -> list[Phase]:
        """As there.

        Raises:
            ConfigError: as there, or the loss does not look several steps ahead and should.
        """
        # Of a batch TorchRL's hands its value estimator no `steps_to_next_obs`.
        one_step = isinstance(loss_module, REDQLoss) and not isinstance(loss_module, InParts)
        if one_step and config.n_steps > 1:
            hint = f"{type(loss_module).__name__} would discount them as one"
            raise ConfigError("algo.n_steps", config.n_steps, "1 with this loss", hint)
        return super().make_phases(loss_module, optimizer, config)


REDQ = Algorithm(make_agent, REDQTrainer, FINITE_BOX, SETTINGS)

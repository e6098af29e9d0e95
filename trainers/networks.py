"""Networks of the shipped algorithms, as TensorDict modules."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.envs.utils import ExplorationType, exploration_type
from torchrl.modules import NormalParamExtractor, ProbabilisticActor, TanhNormal, ValueOperator

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "leaky_relu": nn.LeakyReLU,
}


def mlp(
    num_inputs: int, num_outputs: int, hidden: Sequence[int], activation: str = "relu"
) -> nn.Sequential:
    """A multi-layer perceptron, no activation after its last layer."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(num_inputs, width), ACTIVATIONS[activation]()]
        num_inputs = width
    return nn.Sequential(*layers, nn.Linear(num_inputs, num_outputs))


class StateActionValue(nn.Module):
    """Q(s, a): an MLP on the concatenation, ``[..., n] , [..., m] -> [..., 1]``."""

    def __init__(
        self, num_observations: int, num_actions: int, hidden: Sequence[int], activation: str
    ) -> None:
        super().__init__()
        self.net = mlp(num_observations + num_actions, 1, hidden, activation)

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        return self.net(torch.cat([observation, action], -1))


def tanh_normal_actor(
    num_observations: int, spec: Any, hidden: Sequence[int], activation: str
) -> ProbabilisticActor:
    """A Gaussian squashed into the bounds of ``spec`` (Haarnoja et al. 2018, appendix C)."""
    num_actions = spec.shape[-1]
    net = nn.Sequential(
        mlp(num_observations, 2 * num_actions, hidden, activation),
        # TorchRL's recipe bounds the scale below by 0.1. That keeps the entropy above the usual
        # target, and alpha falls without end; the default bound of 1e-4 does not.
        NormalParamExtractor(),
    )
    low, high = spec.space.low, spec.space.high
    # The distribution's own bounds, left unsaid, cost it no rescaling in every sample.
    unit = bool((low == -1).all() and (high == 1).all())
    return ProbabilisticActor(
        TensorDictModule(net, ["observation"], ["loc", "scale"]),
        in_keys=["loc", "scale"],
        spec=spec,
        distribution_class=TanhNormal,
        distribution_kwargs={} if unit else {"low": low, "high": high},
        return_log_prob=True,
    )


def critic_ensemble(critic: nn.Module | Sequence[nn.Module], number: int = 2) -> list[nn.Module]:
    """Critics Q(s, a) for a loss: one network and a number, or a list of them.

    One network is copied and every copy drawn anew; a list is taken as it is. Plain modules
    ``(observation, action) -> [..., 1]`` become TensorDict modules.
    """
    if isinstance(critic, nn.Module):
        critics = [critic] + [_redrawn(critic) for _ in range(number - 1)]
    else:
        critics = list(critic)
    return [
        c if isinstance(c, TensorDictModule) else ValueOperator(c, ["observation", "action"])
        for c in critics
    ]


def _redrawn(network: nn.Module) -> nn.Module:
    twin = copy.deepcopy(network)
    for module in twin.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()  # type: ignore[operator]  # torch's convention
    return twin


class ActingPolicy(nn.Module):
    """Picks actions with an actor, and computes nothing else (a loss wants log-probabilities).

    Follows TorchRL's exploration type: ``with set_exploration_type(ExplorationType.DETERMINISTIC)``
    for the deterministic action, else a sample.
    """

    def __init__(self, actor: ProbabilisticActor) -> None:
        super().__init__()
        self.actor = actor

    def forward(self, data: TensorDictBase) -> TensorDictBase:
        """Write ``action`` for the observations in ``data``."""
        distribution: Any = self.actor.get_dist(data)
        deterministic = exploration_type() is ExplorationType.DETERMINISTIC
        action = distribution.deterministic_sample if deterministic else distribution.rsample()
        return data.set("action", action)

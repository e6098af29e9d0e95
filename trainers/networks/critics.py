"""Values of states and of actions, and several critics of a loss."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.modules import ValueOperator

from trainers import plugins
from trainers.config import NetworkConfig
from trainers.networks.mlps import MakeNorm, mlp


class StateActionValue(nn.Module):
    """Q(s, a): an MLP on the concatenation, ``[..., n] , [..., m] -> [..., num_outputs]``."""

    def __init__(
        self,
        num_observations: int,
        num_actions: int,
        hidden: Sequence[int],
        activation: str,
        num_outputs: int = 1,
        norm: MakeNorm | None = None,
    ) -> None:
        super().__init__()
        self.net = mlp(num_observations + num_actions, num_outputs, hidden, activation, norm)

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        return self.net(torch.cat([observation, action], -1))


class StateValue(nn.Module):
    """V(s), or Q(s, a) of each of several actions: an MLP, ``[..., n] -> [..., num_outputs]``."""

    def __init__(
        self, num_observations: int, hidden: Sequence[int], activation: str, num_outputs: int = 1
    ) -> None:
        super().__init__()
        self.net = mlp(num_observations, num_outputs, hidden, activation)

    def forward(self, observation: Tensor) -> Tensor:
        return self.net(observation)


def critic_ensemble(critic: nn.Module | Sequence[nn.Module], number: int = 2) -> list[nn.Module]:
    """Critics Q(s, a) for a loss: one network and a number, or a list of them.

    One network is copied and every copy drawn anew; a list is taken as it is. Plain modules
    ``(observation, action) -> [..., 1]`` become TensorDict modules.

    Raises:
        ValueError: a module of the one network has parameters but no ``reset_parameters``, so its
            copies would be equal and their minimum of no use.
    """
    if isinstance(critic, nn.Module):
        critics = [critic] + [_redrawn(critic) for _ in range(number - 1)]
    else:
        critics = list(critic)
    return [
        c if isinstance(c, TensorDictModule) else ValueOperator(c, ["observation", "action"])
        for c in critics
    ]


def make_critics(
    sizes: tuple[int, int],
    network: NetworkConfig,
    number: int,
    plugin: str | None,
    device: Any,
    **given: Any,
) -> list[nn.Module]:
    """So many critics Q(s, a), drawn one by one: of the shipped kind or of a plugin's.

    Args:
        sizes: of observations and actions.
        network: widths and activation of the shipped kind.
        number: how many, unless the plugin makes a list of all of them.
        plugin: ``algo.critic``.
        device: where they go.
        given: to :class:`StateActionValue`, of the shipped kind.
    """

    def make() -> Any:
        if plugin is None:
            return StateActionValue(*sizes, network.hidden, network.activation, **given)
        return plugins.networks.make(plugin, *sizes)

    critic = make()
    if isinstance(critic, nn.Module):  # else a list of all of them
        critic = [critic, *(make() for _ in range(number - 1))]
    return [each.to(device) for each in critic_ensemble(critic)]


def _redrawn(network: nn.Module) -> nn.Module:
    twin = copy.deepcopy(network)
    for name, module in twin.named_modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()  # type: ignore[operator]  # torch's convention
        elif next(module.parameters(recurse=False), None) is not None:
            raise ValueError(
                f"{name or type(module).__name__} has parameters but no reset_parameters() to draw "
                "them anew for each critic: give a list of critics"
            )
    return twin

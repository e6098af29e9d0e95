"""Policies as TensorDict modules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from tensordict.nn import (
    AddStateIndependentNormalScale,
    InteractionType,
    ProbabilisticTensorDictModule,
    ProbabilisticTensorDictSequential,
    TensorDictModule,
)
from torch import Tensor, distributions, nn
from torchrl.data import Categorical, TensorSpec
from torchrl.envs.utils import ExplorationType, exploration_type
from torchrl.modules import IndependentNormal, NormalParamExtractor, ProbabilisticActor, TanhNormal

from trainers.networks.mlps import MakeNorm, mlp

# tanh rounds to exactly 1 at 9: keep off the bounds, as TorchRL's transform does
BELOW_ONE = 1.0 - torch.finfo(torch.float32).resolution
_HALF_LOG_TAU = 0.5 * math.log(2.0 * math.pi)


class ActionHead(nn.Module):
    """From a network's last outputs ``[..., num_inputs]`` to the parameters of a distribution.

    Args:
        num_inputs: how many outputs it takes.
        to_parameters: makes them of the outputs; default: they are the parameters.
        squash: of the mean that it makes, into the bounds of the actions.
    """

    def __init__(
        self,
        num_inputs: int,
        to_parameters: nn.Module | None = None,
        squash: Squash | None = None,
    ) -> None:
        super().__init__()
        self.num_inputs = num_inputs
        self.to_parameters = to_parameters or nn.Identity()
        self.squash = squash

    def forward(self, outputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        parameters = self.to_parameters(outputs)
        if self.squash is None:
            return parameters
        loc, *others = parameters
        return self.squash(loc), *others


def action_head(
    spec: TensorSpec, predict_std: bool, log_std_init: float, tanh_loc: bool = False
) -> ActionHead:
    """Logits of a categorical distribution, or mean and standard deviation of a Gaussian.

    Args:
        spec: of the actions.
        predict_std: the deviation depends on the state; else it is a parameter of its own.
        log_std_init: the logarithm of that at the start.
        tanh_loc: the mean stays within the bounds, by tanh. ``spec`` has to have some then.
    """
    if isinstance(spec, Categorical):
        return ActionHead(spec.n)
    size = spec.shape[-1]
    squash = Squash(*center_and_half_range(spec)) if tanh_loc else None
    if predict_std:
        return ActionHead(2 * size, NormalParamExtractor(), squash)
    scale = AddStateIndependentNormalScale(size, init_value=log_std_init)
    return ActionHead(size, scale, squash)


def stochastic_actor(
    net: nn.Module, in_keys: list[Any], spec: TensorSpec, trunk: TensorDictModule | None = None
) -> ProbabilisticTensorDictSequential:
    """An actor that writes ``action``, ``action_log_prob`` and its distribution's parameters.

    It samples unless TorchRL's exploration type says otherwise. A Gaussian is neither squashed nor
    clipped here: the environments clip, and the log-probability stays that of what was drawn.
    """
    trunks: list[Any] = [] if trunk is None else [trunk]
    return ProbabilisticTensorDictSequential(*trunks, *_stochastic_modules(net, in_keys, spec))


def _stochastic_modules(net: nn.Module, in_keys: list[Any], spec: TensorSpec) -> list[Any]:
    discrete = isinstance(spec, Categorical)
    parameters: list[Any] = ["logits"] if discrete else ["loc", "scale"]
    return [
        TensorDictModule(net, in_keys, parameters),
        ProbabilisticTensorDictModule(
            in_keys=parameters,
            out_keys=["action"],
            distribution_class=distributions.Categorical if discrete else IndependentNormal,
            default_interaction_type=InteractionType.RANDOM,  # type: ignore[arg-type]  # a bad stub
            return_log_prob=True,
        ),
    ]


class TanhNormalActor(ProbabilisticActor):
    """A Gaussian squashed into the bounds of the actions (Haarnoja et al. 2018, appendix C).

    Args:
        num_observations: length of ``observation``.
        spec: a bounded action spec ``[n]``.
        hidden: widths of the hidden layers.
        activation: one of :data:`~trainers.networks.mlps.ACTIVATIONS`.
        norm: as for :func:`~trainers.networks.mlps.mlp`.
    """

    def __init__(
        self,
        num_observations: int,
        spec: Any,
        hidden: Sequence[int],
        activation: str,
        norm: MakeNorm | None = None,
    ) -> None:
        num_actions = spec.shape[-1]
        net = nn.Sequential(
            mlp(num_observations, 2 * num_actions, hidden, activation, norm),
            # TorchRL's recipe bounds the scale below by 0.1. That keeps the entropy above the usual
            # target, and alpha falls without end; the default bound does not.
            NormalParamExtractor(),
        )
        center, half_range = center_and_half_range(spec)
        low, high = spec.space.low, spec.space.high
        # The distribution's own bounds, left unsaid, cost it no rescaling in every sample.
        unit = isinstance(half_range, float)
        super().__init__(
            TensorDictModule(net, ["observation"], ["loc", "scale"]),
            in_keys=["loc", "scale"],
            spec=spec,
            distribution_class=TanhNormal,
            distribution_kwargs={} if unit else {"low": low, "high": high},
            return_log_prob=True,
        )
        # Not submodules a second time; the parameters are the same.
        self.__dict__["_outputs"], self.__dict__["_net"] = net[0], net
        self.center, self.half_range = center, half_range

    @property
    def net(self) -> nn.Sequential:
        """The linear layers and the activations between them, up to mean and spread."""
        return self.__dict__["_outputs"]

    @property
    def to_std(self) -> Any:
        """From the spread to a standard deviation: ``softplus(spread + bias) + min_val``."""
        return self.__dict__["_net"][1].scale_mapping

    def mode(self, observation: Tensor) -> Tensor:
        """The deterministic action, the squashed mean."""
        mean, _ = self._net(observation)
        return self.in_bounds(mean.tanh().clamp(-BELOW_ONE, BELOW_ONE))

    def sample(self, observation: Tensor) -> Tensor:
        """An action drawn from the policy; differentiable."""
        mean, std = self._net(observation)
        before = torch.addcmul(mean, std, torch.randn_like(mean))
        return self.in_bounds(before.tanh().clamp(-BELOW_ONE, BELOW_ONE))

    def draw(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """An action and its log-probability ``[...]``; differentiable.

        TorchRL's by way of a distribution are equal to them, and take several times as long.
        """
        mean, std = self._net(observation)
        noise = torch.randn_like(mean)
        before = torch.addcmul(mean, std, noise)
        # log(1 - tanh(x)^2), written so that it does not cancel where tanh saturates.
        log_slope = 2.0 * (math.log(2.0) - before - nn.functional.softplus(-2.0 * before))
        each = -0.5 * noise.square() - std.log() - log_slope - _HALF_LOG_TAU
        if isinstance(self.half_range, Tensor):
            each = each - self.half_range.log()
        action = self.in_bounds(before.tanh().clamp(-BELOW_ONE, BELOW_ONE))
        return action, each.sum(-1)

    def in_bounds(self, squashed: Tensor) -> Tensor:
        """From (-1, 1) to the actions' bounds."""
        unit = isinstance(self.half_range, float)
        return squashed if unit else self.center + self.half_range * squashed


class CategoricalActor(ProbabilisticTensorDictSequential):
    """Chooses one of several actions, by an MLP that gives their logits.

    Args:
        num_observations: length of ``observation``.
        spec: TorchRL's ``Categorical``.
        hidden: widths of the hidden layers.
        activation: one of :data:`~trainers.networks.mlps.ACTIVATIONS`.
    """

    def __init__(
        self, num_observations: int, spec: Any, hidden: Sequence[int], activation: str
    ) -> None:
        net = mlp(num_observations, spec.n, hidden, activation)
        super().__init__(*_stochastic_modules(net, ["observation"], spec))
        self.num_actions: int = spec.n

    @property
    def net(self) -> nn.Sequential:
        """The linear layers and the activations between them, up to the logits."""
        return self[0].module  # type: ignore[return-value]  # as it was made

    def mode(self, observation: Tensor) -> Tensor:
        """The number of the likeliest action, ``[...]``."""
        return self.net(observation).argmax(-1)

    def sample(self, observation: Tensor) -> Tensor:
        """The number of an action drawn from the policy, ``[...]``."""
        return distributions.Categorical(logits=self.net(observation)).sample()


class TanhActor(TensorDictModule):
    """A deterministic policy: an MLP squashed into the bounds of the actions.

    Args:
        num_observations: length of ``observation``.
        spec: a bounded action spec ``[n]``.
        hidden: widths of the hidden layers.
        activation: one of :data:`~trainers.networks.mlps.ACTIVATIONS`.
    """

    def __init__(
        self, num_observations: int, spec: Any, hidden: Sequence[int], activation: str
    ) -> None:
        center, half_range = center_and_half_range(spec)
        net = mlp(num_observations, spec.shape[-1], hidden, activation)
        squash = Squash(center, half_range)
        super().__init__(nn.Sequential(net, squash), ["observation"], ["action"])
        self.center, self.half_range = center, half_range

    @property
    def net(self) -> nn.Sequential:
        """The linear layers and the activations between them."""
        return self.module[0]  # type: ignore[index, return-value]  # a Sequential

    def mode(self, observation: Tensor) -> Tensor:
        """The action."""
        return self.module(observation)

    sample = mode


class Squash(nn.Module):
    """Into the bounds of the actions, by tanh."""

    def __init__(self, center: Tensor | float, half_range: Tensor | float) -> None:
        super().__init__()
        self.center, self.half_range = center, half_range

    def forward(self, outputs: Tensor) -> Tensor:
        return self.center + self.half_range * outputs.tanh()


def center_and_half_range(spec: Any) -> tuple[Tensor | float, Tensor | float]:
    """Of the bounds of a bounded spec: tensors, or the numbers 0 and 1 where they are -1 and 1."""
    low, high = spec.space.low, spec.space.high
    unit = bool((low == -1).all() and (high == 1).all())
    return (0.0, 1.0) if unit else ((low + high) / 2, (high - low) / 2)


class ActingPolicy(nn.Module):
    """Picks actions with an actor, and computes nothing else (a loss wants log-probabilities).

    Follows TorchRL's exploration type: ``with set_exploration_type(ExplorationType.DETERMINISTIC)``
    for the deterministic action, else a sample.
    """

    def __init__(self, actor: TanhNormalActor | TanhActor | CategoricalActor) -> None:
        super().__init__()
        self.actor = actor

    def mode(self, observation: Tensor) -> Tensor:
        """The deterministic action."""
        return self.actor.mode(observation)

    def forward(self, data: TensorDictBase) -> TensorDictBase:
        """Write ``action`` for the observations in ``data``."""
        deterministic = exploration_type() is ExplorationType.DETERMINISTIC
        act = self.actor.mode if deterministic else self.actor.sample
        return data.set("action", act(data["observation"]))

"""Networks of the shipped algorithms, as TensorDict modules."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
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
from torchrl.modules import (
    IndependentNormal,
    NormalParamExtractor,
    ProbabilisticActor,
    TanhNormal,
    ValueOperator,
)

from trainers import plugins
from trainers.config import NetworkConfig

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "leaky_relu": nn.LeakyReLU,
}

MakeNorm = Callable[[int], nn.Module]


def mlp(
    num_inputs: int,
    num_outputs: int,
    hidden: Sequence[int],
    activation: str = "relu",
    norm: MakeNorm | None = None,
) -> nn.Sequential:
    """A multi-layer perceptron, no activation after its last layer.

    ``norm`` makes a layer that normalises so many values: the inputs, and what comes out of every
    activation.
    """
    layers: list[nn.Module] = [] if norm is None else [norm(num_inputs)]
    for width in hidden:
        layers += [nn.Linear(num_inputs, width), ACTIVATIONS[activation]()]
        layers += [] if norm is None else [norm(width)]
        num_inputs = width
    return nn.Sequential(*layers, nn.Linear(num_inputs, num_outputs))


def orthogonal(net: nn.Module, last_gain: float) -> None:
    """Orthogonal weights, biases 0; the gain is sqrt(2), of the last layer ``last_gain``."""
    layers = [module for module in net.modules() if isinstance(module, nn.Linear)]
    for layer in layers:
        gain = last_gain if layer is layers[-1] else math.sqrt(2.0)
        nn.init.orthogonal_(layer.weight, gain)
        nn.init.zeros_(layer.bias)


class ActionHead(nn.Module):
    """From a network's last outputs ``[..., num_inputs]`` to the parameters of a distribution."""

    def __init__(self, num_inputs: int, to_parameters: nn.Module | None = None) -> None:
        super().__init__()
        self.num_inputs = num_inputs
        self.to_parameters = to_parameters or nn.Identity()

    def forward(self, outputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.to_parameters(outputs)


def action_head(spec: TensorSpec, predict_std: bool, log_std_init: float) -> ActionHead:
    """Logits of a categorical distribution, or mean and standard deviation of a Gaussian.

    The deviation is a parameter of its own that starts at ``exp(log_std_init)``, or predicted.
    """
    if isinstance(spec, Categorical):
        return ActionHead(spec.n)
    size = spec.shape[-1]
    if predict_std:
        return ActionHead(2 * size, NormalParamExtractor())
    return ActionHead(size, AddStateIndependentNormalScale(size, init_value=log_std_init))


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


class TanhNormalActor(ProbabilisticActor):
    """A Gaussian squashed into the bounds of the actions (Haarnoja et al. 2018, appendix C).

    Args:
        num_observations: length of ``observation``.
        spec: a bounded action spec ``[n]``.
        hidden: widths of the hidden layers.
        activation: one of :data:`ACTIVATIONS`.
        norm: as for :func:`mlp`.
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


# tanh rounds to exactly 1 at 9: keep off the bounds, as TorchRL's transform does
BELOW_ONE = 1.0 - torch.finfo(torch.float32).resolution
_HALF_LOG_TAU = 0.5 * math.log(2.0 * math.pi)


class CategoricalActor(ProbabilisticTensorDictSequential):
    """Chooses one of several actions, by an MLP that gives their logits.

    Args:
        num_observations: length of ``observation``.
        spec: TorchRL's ``Categorical``.
        hidden: widths of the hidden layers.
        activation: one of :data:`ACTIVATIONS`.
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
        activation: one of :data:`ACTIVATIONS`.
    """

    def __init__(
        self, num_observations: int, spec: Any, hidden: Sequence[int], activation: str
    ) -> None:
        center, half_range = center_and_half_range(spec)
        net = mlp(num_observations, spec.shape[-1], hidden, activation)
        squash = _Squash(center, half_range)
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


class _Squash(nn.Module):
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


class QHead(nn.Module):
    """From a network's last outputs to the values of all actions, or to logits of returns.

    Duelling outputs are a state's value and its actions' advantages, which are made to be 0 on
    average: ``Q = V + A - mean A`` (Wang et al. 2016, equation 9).

    Args:
        num_actions: how many there are.
        duelling: whether the first of the outputs is the value.
        num_atoms: None for values ``[..., num_actions]``; else logits of so many returns,
            ``[..., num_atoms, num_actions]`` (Bellemare et al. 2017), duelling atom by atom
            (Hessel et al. 2018).
    """

    def __init__(
        self, num_actions: int, duelling: bool = False, num_atoms: int | None = None
    ) -> None:
        super().__init__()
        self.num_actions, self.duelling, self.num_atoms = num_actions, duelling, num_atoms
        self.num_inputs = (num_actions + duelling) * (num_atoms or 1)

    def forward(self, outputs: Tensor) -> Tensor:
        if self.num_atoms is not None:
            outputs = outputs.unflatten(-1, (self.num_atoms, -1))
        if not self.duelling:
            return outputs
        value, advantage = outputs[..., :1], outputs[..., 1:]
        return value + (advantage - advantage.mean(-1, keepdim=True))


class QNetwork(nn.Sequential):
    """Q(s, a) of every action: an MLP and a :class:`QHead`, ``[..., n] -> [..., num_actions]``.

    Duelling streams share all layers but the last.
    """

    def __init__(
        self,
        num_observations: int,
        num_actions: int,
        hidden: Sequence[int],
        activation: str,
        duelling: bool = False,
        num_atoms: int | None = None,
    ) -> None:
        head = QHead(num_actions, duelling, num_atoms)
        super().__init__(mlp(num_observations, head.num_inputs, hidden, activation), head)


class GreedyPolicy(nn.Module):
    """Takes the action of the largest value, and computes nothing else.

    Args:
        network: from observations to values ``[..., num_actions]``; with a ``support`` to logits
            ``[..., num_atoms, num_actions]``, and the largest expected return counts.
        support: the returns ``[num_atoms]`` that these are of.
    """

    support: Tensor | None

    def __init__(self, network: nn.Module, support: Tensor | None = None) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("support", support, persistent=False)

    def mode(self, observation: Tensor) -> Tensor:
        """The number of the action."""
        values = self.network(observation)
        if self.support is not None:
            values = (values.softmax(-2) * self.support.unsqueeze(-1)).sum(-2)
        return values.argmax(-1)

    def forward(self, data: TensorDictBase) -> TensorDictBase:
        """Write ``action`` for the observations in ``data``."""
        return data.set("action", self.mode(data["observation"]))


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

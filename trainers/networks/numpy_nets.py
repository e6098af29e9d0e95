"""Small networks on the CPU in numpy, on the very memory of torch's parameters.

An operation of torch on a 64 x 64 matrix takes longer to start than to compute. Numpy starts it
several times as fast, which is all that matters to acting frame by frame and to minibatches of 64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from tensordict.nn import AddStateIndependentNormalScale
from threadpoolctl import ThreadpoolController
from torch import Tensor, nn

from trainers.networks.actors import ActionHead, Squash
from trainers.networks.normalization import RunningNorm
from trainers.networks.q_networks import QHead
from trainers.networks.squashed import SquashedGaussian, SquashedMean

Array = np.ndarray

# Beyond this the arithmetic takes longer than to start it, and torch's threads are of use.
_WIDEST = 256
_HALF_LOG_TAU = 0.5 * math.log(2.0 * math.pi)


class _Activation(NamedTuple):
    apply: Callable[[Array], Array]  # in place
    slope: Callable[[Array], Array]  # from the activation's output


_ACTIVATIONS: dict[type[nn.Module], _Activation] = {
    nn.Tanh: _Activation(lambda x: np.tanh(x, out=x), lambda y: 1.0 - y * y),
    nn.ReLU: _Activation(lambda x: np.maximum(x, 0.0, out=x), lambda y: y > 0.0),
}


@cache
def give_numpy_one_thread() -> None:
    """Take the other threads from Numpy's products of matrices, for the rest of the process.

    They have nothing to do in products as small as these, and wait for some on torch's cores.
    """
    for library in ThreadpoolController().lib_controllers:
        # Not torch's own, which may be of the same kind.
        if library.internal_api == "openblas" and "numpy" in library.filepath:
            library.set_num_threads(1)


class NumpyMLP:
    """An ``nn.Sequential`` of linear layers, tanh and ReLU, perhaps behind a running norm.

    It computes what the modules would, with the values their parameters have when it is called.

    Args:
        net: in float32 on the CPU; see :meth:`fits`.
    """

    def __init__(self, net: nn.Sequential) -> None:
        give_numpy_one_thread()
        first = net[0]
        self.norm: RunningNorm | None = first if isinstance(first, RunningNorm) else None
        self._linear = [module for module in net if isinstance(module, nn.Linear)]
        # The layers' own; less than all if some are computed, as by weight_norm. The modules'
        # attributes take three times as long.
        self._own = [layer._parameters for layer in self._linear]
        self._activations = [
            _ACTIVATIONS[type(module)] for module in net if type(module) in _ACTIVATIONS
        ]
        self._arrays: list[tuple[Array, Array]] = []
        self._addresses: list[int] = []

    @staticmethod
    def fits(net: nn.Module) -> bool:
        """Whether ``net`` is such a network, and small."""
        if not isinstance(net, nn.Sequential):
            return False
        modules = list(net)[isinstance(net[0], RunningNorm) :]
        linear, between = modules[::2], modules[1::2]
        return (
            len(modules) % 2 == 1
            and all(type(m) is nn.Linear and m.bias is not None for m in linear)
            and all(type(m) in _ACTIVATIONS for m in between)
            and all(isinstance(m, nn.Linear) and m.out_features <= _WIDEST for m in linear)
        )

    @property
    def parameters(self) -> list[Tensor]:
        """Weight and bias of each layer, in the order of :meth:`backward`'s gradients."""
        own: list[Any] = [tensor for layer in self._own for tensor in layer.values()]
        if len(own) == 2 * len(self._linear):
            return own
        return [tensor for layer in self._linear for tensor in (layer.weight, layer.bias)]

    @property
    def layers(self) -> list[tuple[Array, Array]]:
        """Weights ``[outputs, inputs]`` and biases, sharing the parameters' memory."""
        own: Any = self._own
        addresses = [tensor.data_ptr() for layer in own for tensor in layer.values()]
        computed = len(addresses) < 2 * len(self._linear)
        if computed or addresses != self._addresses:  # parameters have been moved
            self._arrays = [
                (layer.weight.detach().numpy(), layer.bias.detach().numpy())
                for layer in self._linear
            ]
            self._addresses = addresses
        return self._arrays

    def normalized(self, values: Array) -> Array:
        """What the linear layers get to see, in the arithmetic of :class:`RunningNorm`."""
        if self.norm is None:
            return values
        normal = (values - self.norm.shift.numpy()) * self.norm.scale.numpy()
        clip = self.norm.clip
        return np.minimum(np.maximum(normal, -clip, out=normal), clip, out=normal)

    def forward(self, values: Array) -> list[Array]:
        """From normalised values ``[B, inputs]`` to each layer's output; the last is the net's."""
        outputs = [values.astype(np.float32, copy=False)]
        for index, (weight, bias) in enumerate(self.layers):
            output = np.dot(outputs[-1], weight.T)
            output += bias
            if index < len(self._activations):
                self._activations[index].apply(output)
            outputs.append(output)
        return outputs

    def backward(self, outputs: list[Array], gradient: Array, into: Sequence[Array]) -> None:
        """Gradients of :attr:`parameters` from that of the output ``[B, outputs]``.

        Args:
            outputs: what :meth:`forward` returned.
            into: where they go, shaped like the parameters.
        """
        layers, ones = self.layers, _ones(len(gradient))
        gradient = gradient.astype(np.float32, copy=False)
        for index in reversed(range(len(layers))):
            np.dot(gradient.T, outputs[index], out=into[2 * index])
            np.dot(ones, gradient, out=into[2 * index + 1])
            if index > 0:
                gradient = np.dot(gradient, layers[index][0])
                gradient *= self._activations[index - 1].slope(outputs[index])


@lru_cache(maxsize=8)
def _ones(number: int) -> Array:
    return np.ones(number, np.float32)


class Distribution(NamedTuple):
    """The log-probabilities ``[B]`` of what was done, the sum of all entropies, what moves them.

    ``gradients(d_log_prob, d_entropy)``, of an array ``[B]`` and a number, are those of the
    network's outputs and of the parameters that the head has for itself.
    """

    log_prob: Array
    entropy: float
    gradients: Callable[[Array, float], tuple[Array, list[Array]]]


class Head(Protocol):
    """What is made of a network's outputs ``[B, n]``: actions."""

    def noise(self, *shape: int) -> Array:
        """What so many actions are drawn with, ``[*shape, ...]``, from torch's generator."""
        ...

    def action(self, outputs: Array, noise: Array | None) -> Array:
        """The action drawn with ``noise``, or without any the likeliest one."""
        ...


class DistributionHead(Head, Protocol):
    """A head that also knows the way back, to what was done."""

    parameters: list[Tensor]

    def distribution(self, outputs: Array, action: Array) -> Distribution:
        """How likely ``action`` was."""
        ...


class GaussianHead:
    """Independent normals around the outputs; their deviations are the same in every state.

    Args:
        scale: the deviations.
        squash: of the outputs into the bounds of the actions, if they are.
    """

    def __init__(self, scale: AddStateIndependentNormalScale, squash: Squash | None = None) -> None:
        self.parameters: list[Tensor] = [scale.state_independent_scale]
        bounds: Any = squash and (squash.center, squash.half_range)
        self._bounds = bounds and tuple(np.asarray(each, np.float32) for each in bounds)
        self._log_lower = math.log(float(scale.scale_lb))  # type: ignore[arg-type]  # a number

    @property
    def _unbounded_log_std(self) -> Array:
        return self.parameters[0].detach().numpy()

    def noise(self, *shape: int) -> Array:
        """Standard normal."""
        return torch.randn(*shape, *self.parameters[0].shape).numpy()

    def action(self, outputs: Array, noise: Array | None) -> Array:
        """The mean, with the noise in proportion."""
        loc, _ = self._squashed(outputs)
        if noise is None:
            return loc
        return loc + noise * np.exp(np.maximum(self._unbounded_log_std, self._log_lower))

    def distribution(self, outputs: Array, action: Array) -> Distribution:
        """Densities, and the entropy, which is the same everywhere."""
        unbounded = self._unbounded_log_std
        log_std = np.maximum(unbounded, self._log_lower)
        precision = np.exp(-log_std)
        loc, slope = self._squashed(outputs)
        z = (action - loc) * precision
        squares = z * z
        log_volume = float(np.add.reduce(log_std)) + len(log_std) * _HALF_LOG_TAU
        log_prob = np.dot(squares, -0.5 * _ones(len(log_std))) - log_volume
        entropy = len(outputs) * (log_volume + 0.5 * len(log_std))

        def gradients(d_log_prob: Array, d_entropy: float) -> tuple[Array, list[Array]]:
            d_log_std = np.dot(d_log_prob, squares - 1.0) + d_entropy * len(outputs)
            d_loc = d_log_prob[:, None] * (z * precision)
            d_outputs = d_loc if slope is None else d_loc * slope
            return d_outputs, [d_log_std * (unbounded >= self._log_lower)]

        return Distribution(log_prob, entropy, gradients)

    def _squashed(self, outputs: Array) -> tuple[Array, Array | None]:
        """The means, and how fast they change with the outputs, if not by as much."""
        if self._bounds is None:
            return outputs, None
        center, half_range = self._bounds
        squashed = np.tanh(outputs)
        return center + half_range * squashed, half_range * (1.0 - squashed * squashed)


class CategoricalHead:
    """One of several actions, the outputs their logits."""

    def __init__(self, num_actions: int) -> None:
        self.parameters: list[Tensor] = []
        self.num_actions = num_actions

    def noise(self, *shape: int) -> Array:
        """Gumbel's: the action whose sum of logit and noise is the largest is drawn by softmax."""
        return torch.empty(*shape, self.num_actions).exponential_().log_().neg_().numpy()

    def action(self, outputs: Array, noise: Array | None) -> Array:
        """Its number, ``[B]``."""
        return (outputs if noise is None else outputs + noise).argmax(-1)

    def distribution(self, outputs: Array, action: Array) -> Distribution:
        """Probabilities by softmax."""
        logits = outputs - outputs.max(-1, keepdims=True)
        log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        probs = np.exp(log_probs)
        entropy = -(probs * log_probs).sum(-1)
        taken = (np.arange(len(logits)), action)

        def gradients(d_log_prob: Array, d_entropy: float) -> tuple[Array, list[Array]]:
            by_entropy = d_entropy * (log_probs + entropy[:, None])
            d_logits = -probs * (d_log_prob[:, None] + by_entropy)
            d_logits[taken] += d_log_prob
            return d_logits, []

        return Distribution(log_probs[taken], float(entropy.sum()), gradients)


class SquashedHead(SquashedGaussian):
    """Normals with a mean and a spread from the outputs, squashed into the actions' bounds."""

    def noise(self, *shape: int) -> Array:
        """Standard normal."""
        return torch.randn(*shape, self.num_actions).numpy()


class MeanHead(SquashedMean):
    """The outputs, squashed into the actions' bounds: nothing is drawn."""

    def noise(self, *shape: int) -> Array:
        """None, in as many pieces."""
        return np.empty((*shape, 0), np.float32)


def numpy_policy(policy: nn.Module | None) -> tuple[NumpyMLP, DistributionHead] | None:
    """Net and head of a policy ``Sequential(net, ActionHead)``; None if it is of another kind."""
    if not (isinstance(policy, nn.Sequential) and len(policy) == 2):
        return None
    net, head = policy
    if not (isinstance(net, nn.Sequential) and NumpyMLP.fits(net) and isinstance(head, ActionHead)):
        return None
    if isinstance(head.to_parameters, AddStateIndependentNormalScale):
        return NumpyMLP(net), GaussianHead(head.to_parameters, head.squash)
    if isinstance(head.to_parameters, nn.Identity):
        return NumpyMLP(net), CategoricalHead(head.num_inputs)
    return None


class NumpyQHead:
    """The arithmetic of a :class:`QHead`, and the way back."""

    def __init__(self, head: QHead) -> None:
        self.num_actions, self._duelling, self._num_atoms = (
            head.num_actions, head.duelling, head.num_atoms,
        )  # fmt: skip

    def forward(self, outputs: Array) -> Array:
        """From ``[B, num_inputs]`` to values ``[B, actions]`` or logits ``[B, atoms, actions]``."""
        if self._num_atoms is not None:
            outputs = outputs.reshape(len(outputs), self._num_atoms, -1)
        if not self._duelling:
            return outputs
        value, advantage = outputs[..., :1], outputs[..., 1:]
        mean = np.add.reduce(advantage, -1, keepdims=True) / self.num_actions
        return value + (advantage - mean)

    def backward(self, gradient: Array) -> Array:
        """The gradient of the outputs, from that of what became of them."""
        if self._duelling:
            total = np.add.reduce(gradient, -1, keepdims=True)
            gradient = np.concatenate([total, gradient - total / self.num_actions], -1)
        return gradient.reshape(len(gradient), -1)


class GreedyHead:
    """The action of the largest value; see :class:`GreedyPolicy`."""

    def __init__(self, head: NumpyQHead, support: Tensor | None) -> None:
        self._head = head
        self._support = None if support is None else support.numpy()

    def noise(self, *shape: int) -> Array:
        """None: nothing is drawn."""
        return np.empty((*shape, 0), np.float32)

    def action(self, outputs: Array, noise: Array | None) -> Array:
        """Its number, ``[B]``."""
        values = self._head.forward(outputs)
        if self._support is not None:
            values = expected_returns(values, self._support)
        return values.argmax(-1)


def expected_returns(logits: Array, support: Array) -> Array:
    """Of every action, ``[B, num_actions]``, by logits ``[B, num_atoms, num_actions]``."""
    weights = np.exp(logits - np.maximum.reduce(logits, -2, keepdims=True))
    return np.einsum("bza,z->ba", weights, support) / np.add.reduce(weights, -2)


def numpy_q_network(network: nn.Module) -> tuple[NumpyMLP, NumpyQHead] | None:
    """Net and head of ``Sequential(net, QHead)``, the net a small MLP; None if it is another."""
    if not (isinstance(network, nn.Sequential) and len(network) == 2):
        return None
    net, head = network
    if not (isinstance(net, nn.Sequential) and NumpyMLP.fits(net) and type(head) is QHead):
        return None
    return NumpyMLP(net), NumpyQHead(head)

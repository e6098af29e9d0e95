"""Backpropagation through multi-layer perceptrons, written out in torch.

Autograd allocates every result and keeps a record of every operation. With matrices of 256 by 256
on a CPU that takes as long as the arithmetic; here results go into memory that is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trainers.optimization.optimizers import conditions, leaves

_aten: Any = torch.ops.aten


class _Activation(NamedTuple):
    """An element-wise function and the way back, both into memory that is given."""

    apply: Callable[[Tensor, Tensor], Any]  # inputs, where the outputs go
    backward: Callable[[Tensor, Tensor], Any]  # gradient, in place; inputs (outputs if in place)
    in_place: bool = False


_ACTIVATIONS: dict[type[nn.Module], _Activation] = {
    nn.ReLU: _Activation(
        lambda x, out: x.relu_(),
        lambda g, y: _aten.threshold_backward.grad_input(g, y, 0, grad_input=g),
        in_place=True,
    ),
    nn.Tanh: _Activation(
        lambda x, out: x.tanh_(),
        lambda g, y: _aten.tanh_backward.grad_input(g, y, grad_input=g),
        in_place=True,
    ),
    nn.SiLU: _Activation(
        lambda x, out: _aten.silu.out(x, out=out),
        lambda g, x: _aten.silu_backward.grad_input(g, x, grad_input=g),
    ),
    nn.GELU: _Activation(
        lambda x, out: _aten.gelu.out(x, out=out),
        lambda g, x: _aten.gelu_backward.grad_input(g, x, grad_input=g),
    ),
    nn.ELU: _Activation(
        lambda x, out: _aten.elu.out(x, out=out),
        lambda g, x: _aten.elu_backward.grad_input(g, 1.0, 1.0, 1.0, False, x, grad_input=g),
    ),
    nn.LeakyReLU: _Activation(
        lambda x, out: _aten.leaky_relu.out(x, 0.01, out=out),
        lambda g, x: _aten.leaky_relu_backward.grad_input(g, x, 0.01, False, grad_input=g),
    ),
}


class Memory:
    """What the passes through some networks of equal layers leave, layer by layer.

    Attributes:
        inputs: ``[networks, rows, inputs]``, to be written before a forward pass.
        results: of the linear layers, ``[networks, rows, outputs]``; the last are the networks'.
        activated: what becomes of all but the last of them (the same memory, where the way back
            needs no more).
        gradients: of the results; those of the last are to be written before a backward pass.
            Empty, if there is no way back.
    """

    def __init__(
        self,
        inputs: Tensor,
        results: list[Tensor],
        activated: list[Tensor],
        gradients: list[Tensor],
    ) -> None:
        self.inputs, self.results, self.activated = inputs, results, activated
        self.gradients = gradients
        self.layer_inputs = [inputs, *activated]

    def rows(self, begin: int, end: int) -> Memory:
        """The part of some rows; nothing is copied."""
        parts = (
            [tensor[:, begin:end] for tensor in tensors]
            for tensors in (self.results, self.activated, self.gradients)
        )
        return Memory(self.inputs[:, begin:end], *parts)


class Scratch:
    """Memory that passes write to one after the other, and in which they find nothing again.

    The less memory an update goes through, the more of it is in the processor's cache.
    """

    def __init__(self) -> None:
        self._flat: dict[int, Tensor] = {}

    def lend(self, place: int, like: Tensor, shape: Sequence[int]) -> Tensor:
        """Memory of this shape: for the same ``place`` the same, as long as there is enough of it.

        Args:
            place: whoever asks for another one gets other memory.
            like: of the dtype and on the device that are wanted.
            shape: as of ``torch.empty``.
        """
        number, flat = math.prod(shape), self._flat.get(place)
        kind = (like.dtype, like.device)
        if flat is None or flat.numel() < number or (flat.dtype, flat.device) != kind:
            flat = self._flat[place] = like.new_empty(number)
        return flat[:number].view(*shape)


class Perceptrons:
    """Networks of equal linear layers with one kind of activation between them, passed together.

    Args:
        parameters: weights ``[networks, outputs, inputs]`` and biases ``[networks, outputs]`` of
            every layer in turn. They are used where they are: what changes in them counts.
        activation: any of the shipped ones, as torch makes them by default.
    """

    def __init__(self, parameters: Sequence[Tensor], activation: type[nn.Module]) -> None:
        tensors = [parameter.detach() for parameter in parameters]
        self.weights = tensors[::2]
        self._transposed = [weight.transpose(1, 2) for weight in self.weights]
        self._biases = [bias.unsqueeze(1) for bias in tensors[1::2]]
        self._activation = _ACTIVATIONS[activation]

    def memory(self, inputs: Tensor, scratch: Scratch, way_back: bool = True) -> Memory:
        """For passes that begin at ``inputs`` ``[networks, rows, inputs]``.

        Args:
            inputs: their memory.
            scratch: for what nobody looks at once the pass, forward or backward, is over.
            way_back: whether there is one. Else the hidden layers' results are no longer there.
        """
        shapes = [(len(bias), inputs.shape[1], bias.shape[-1]) for bias in self._biases]
        hidden, last = list(enumerate(shapes[:-1])), inputs.new_empty(shapes[-1])
        lent = [scratch.lend(layer, inputs, shape) for layer, shape in hidden]
        if not way_back:
            return Memory(inputs, [*lent, last], lent, [])
        results = [inputs.new_empty(shape) for _, shape in hidden]
        in_place = self._activation.in_place
        activated = results if in_place else [inputs.new_empty(shape) for _, shape in hidden]
        return Memory(inputs, [*results, last], activated, [*lent, torch.empty_like(last)])

    def forward(self, memory: Memory) -> Tensor:
        """The outputs ``[networks, rows, outputs]``; they stay until the next pass."""
        for index, result in enumerate(memory.results):
            torch.baddbmm(
                self._biases[index],
                memory.layer_inputs[index],
                self._transposed[index],
                out=result,
            )
            if index < len(memory.activated):
                self._activation.apply(result, memory.activated[index])
        return memory.results[-1]

    def backward(
        self, memory: Memory, into: Sequence[Tensor] = (), by: Memory | None = None
    ) -> Tensor:
        """The way back of the last :meth:`forward` with this memory, from its last gradients.

        Args:
            memory: as it was left.
            into: where the parameters' gradients go, if they are wanted; shaped like them.
            by: the rows that these come from; default: all of ``memory``.

        Returns:
            The gradient of the first layer's results, for :meth:`input_gradient`; the next pass
            that uses the same scratch writes over it.
        """
        by = by or memory
        for index in reversed(range(len(memory.results))):
            gradient = memory.gradients[index]
            if into:
                _weight_gradient(by.gradients[index], by.layer_inputs[index], into[2 * index])
                torch.sum(by.gradients[index], 1, out=into[2 * index + 1])
            if index > 0:
                below = memory.gradients[index - 1]
                torch.bmm(gradient, self.weights[index], out=below)
                self._activation.backward(below, memory.results[index - 1])
        return memory.gradients[0]

    def input_gradient(self, gradient: Tensor, first: int) -> Tensor:
        """That of the inputs from column ``first`` on, ``[networks, rows, columns]``."""
        return torch.bmm(gradient, self.weights[0][:, :, first:])


def _weight_gradient(gradient: Tensor, inputs: Tensor, into: Tensor) -> None:
    """``gradient^T inputs``; of the two ways to multiply, the faster one for few inputs."""
    if 4 * inputs.shape[-1] > gradient.shape[-1]:
        torch.bmm(gradient.transpose(1, 2), inputs, out=into)
    else:
        into.copy_(torch.bmm(inputs.transpose(1, 2), gradient).transpose(1, 2))


class Gradients:
    """Memory for the gradients of some parameters, in one piece for each of autograd's leaves.

    Of a :class:`~trainers.optimization.optimizers.FlatAdam`'s group it is the very memory in which
    that looks for its gradient, so that nothing has to be copied there.

    Attributes:
        leaves: those of autograd.
        memory: each leaf's.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = list(parameters)
        self._made_for = conditions(self.parameters)
        self.leaves: list[Tensor] = []
        self.memory: list[Tensor] = []
        self._of: dict[int, Tensor] = {}
        remaining = iter(self.parameters)
        for leaf, number in leaves(self.parameters):
            own = leaf.grad if hasattr(leaf, "parts") else None
            memory = torch.empty_like(leaf).detach() if own is None else own
            self.leaves.append(leaf)
            self.memory.append(memory)
            mine = [next(remaining) for _ in range(number)]
            pieces = memory.view(-1).split([parameter.numel() for parameter in mine])
            for parameter, piece in zip(mine, pieces, strict=True):
                self._of[id(parameter)] = piece.view_as(parameter)

    def fit(self, parameters: Sequence[Tensor] | None = None) -> bool:
        """Whether ``parameters``, by default its own, are what this memory was made for.

        They are not once they were moved or frozen, or hooks wait for a gradient of theirs.
        """
        return conditions(self.parameters if parameters is None else parameters) == self._made_for

    def of(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """The part of each of these."""
        return [self._of[id(parameter)] for parameter in parameters]

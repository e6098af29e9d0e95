"""Backpropagation through multi-layer perceptrons, written out in torch.

Autograd allocates every result and keeps a record of every operation. With matrices of 256 by 256
on a CPU that takes as long as the arithmetic; here results go into memory that is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trainers.optimizers import leaves

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
    """Where the results of a pass go, layer by layer.

    ``results`` are the linear layers', ``activated`` what becomes of all but the last of them (the
    same memory, where the way back needs no more), ``gradients`` those of the former.
    """

    def __init__(
        self, results: list[Tensor], activated: list[Tensor], gradients: list[Tensor]
    ) -> None:
        self.results, self.activated, self.gradients = results, activated, gradients
        self.inputs: list[Tensor] = []


class Perceptron:
    """A network of linear layers with one kind of activation between them.

    Args:
        parameters: weight ``[outputs, inputs]`` and bias ``[outputs]`` of every layer in turn. They
            are used where they are: what changes in them counts.
        activation: any of the shipped ones, as torch makes them by default.
    """

    def __init__(self, parameters: Sequence[Tensor], activation: type[nn.Module]) -> None:
        tensors = [parameter.detach() for parameter in parameters]
        self.weights, self.biases = tensors[::2], tensors[1::2]
        self._transposed = [weight.t() for weight in self.weights]
        self._activation = _ACTIVATIONS[activation]

    def memory(self, output: Tensor) -> Memory:
        """For passes whose outputs go to ``output`` ``[rows, outputs]``."""

        def hidden() -> list[Tensor]:
            return [output.new_empty(len(output), len(bias)) for bias in self.biases[:-1]]

        results = hidden()
        activated = results if self._activation.in_place else hidden()
        return Memory([*results, output], activated, hidden())

    def forward(self, inputs: Tensor, memory: Memory) -> None:
        """Write the outputs; all results stay as they are until the memory's next use."""
        memory.inputs = [inputs, *memory.activated]
        for index, result in enumerate(memory.results):
            torch.addmm(
                self.biases[index], memory.inputs[index], self._transposed[index], out=result
            )
            if index < len(memory.activated):
                self._activation.apply(result, memory.activated[index])

    def backward(
        self, gradient: Tensor, memory: Memory, into: Sequence[Tensor] | None = None
    ) -> Tensor:
        """The way back of the last :meth:`forward` with this memory.

        Args:
            gradient: of the outputs, ``[rows, outputs]``.
            memory: as it was left.
            into: where the parameters' gradients go, if they are wanted.

        Returns:
            The gradient of the first layer's results, for :meth:`input_gradient`.
        """
        for index in reversed(range(len(memory.results))):
            if into is not None:
                torch.mm(gradient.t(), memory.inputs[index], out=into[2 * index])
                torch.sum(gradient, 0, out=into[2 * index + 1])
            if index > 0:
                below = memory.gradients[index - 1]
                torch.mm(gradient, self.weights[index], out=below)
                self._activation.backward(below, memory.results[index - 1])
                gradient = below
        return gradient

    def input_gradient(self, gradient: Tensor, first: int) -> Tensor:
        """That of the inputs from column ``first`` on."""
        return gradient @ self.weights[0][:, first:]


class Gradients:
    """Memory for the gradients of some parameters, in one piece for each of autograd's leaves."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = list(parameters)
        self.leaves: list[tuple[Tensor, Tensor]] = []
        self._of: dict[int, Tensor] = {}
        remaining = iter(self.parameters)
        for leaf, number in leaves(self.parameters):
            memory = torch.empty_like(leaf).detach()
            self.leaves.append((leaf, memory))
            mine = [next(remaining) for _ in range(number)]
            pieces = memory.view(-1).split([parameter.numel() for parameter in mine])
            for parameter, piece in zip(mine, pieces, strict=True):
                self._of[id(parameter)] = piece.view_as(parameter)

    def of(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """The part of each of these."""
        return [self._of[id(parameter)] for parameter in parameters]


class _Known(torch.autograd.Function):
    """Numbers for autograd whose gradients are known already."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Sequence[Tensor],
        owners: list[int],
        gradients: list[Tensor],
        done: Callable[[], None],
        *_: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.owners, ctx.gradients, ctx.done = owners, gradients, done
        return tuple(values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        if ctx.gradients is None:
            raise RuntimeError("these losses have been differentiated before: evaluate them again")
        scaled = [
            gradient if _is_one(grads[owner]) else gradient * grads[owner]
            for owner, gradient in zip(ctx.owners, ctx.gradients, strict=True)
        ]
        ctx.gradients = None
        ctx.done()
        return None, None, None, None, *scaled


def _is_one(grad: Tensor) -> bool:
    return grad.device.type == "cpu" and grad.item() == 1.0


def with_gradients(
    values: Sequence[Tensor], gradients: Sequence[Gradients], done: Callable[[], None]
) -> tuple[Tensor, ...]:
    """Scalars, differentiable once: each by the parameters of its own ``gradients``.

    ``done`` is called when that has happened, and the memory of the gradients is free again.
    """
    owners = [owner for owner, each in enumerate(gradients) for _ in each.leaves]
    pairs = [pair for each in gradients for pair in each.leaves]
    memory = [gradient for _, gradient in pairs]
    return _Known.apply(values, owners, memory, done, *(leaf for leaf, _ in pairs))

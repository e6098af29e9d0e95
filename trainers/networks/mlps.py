"""Multi-layer perceptrons."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import nn

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
    layers = [module for module in net.modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    for layer in layers:
        gain = last_gain if layer is layers[-1] else math.sqrt(2.0)
        nn.init.orthogonal_(layer.weight, gain)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # they have one

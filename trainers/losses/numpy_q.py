"""What the losses of Q networks that are written out in numpy have in common."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainers.arrays import as_array, as_tensor, on_host
from trainers.networks.numpy_nets import Array, NumpyMLP, numpy_q_network
from trainers.networks.torch_hooks import hooked
from trainers.optimization.backprop import Gradients
from trainers.optimization.known_gradients import Weight, with_known_gradients


class NumpyQNets:
    """A loss's network and its target, on their own memory, and the way back through the network.

    Args:
        loss: with a ``value_network`` around a shipped one; see :func:`numpy_q_network`.
    """

    def __init__(self, loss: Any) -> None:
        inner = loss.value_network[0].module
        found = numpy_q_network(inner)
        assert found is not None, "see fits()"
        self.network, self.head = found
        self.target = self.network
        if loss.delay_value:
            names = {id(each): name for name, each in loss.value_network.named_parameters()}
            target = copy.deepcopy(inner[0])
            for mine, source in zip(target.parameters(), inner[0].parameters(), strict=True):
                key = tuple(names[id(source)].split("."))
                mine.data = loss.target_value_network_params.get(key).data  # the same memory
            self.target = NumpyMLP(target)
        self._into: Gradients | None = None
        self._places: list[Array] = []  # of it, for every parameter

    @staticmethod
    def fit(network: Any) -> bool:
        """Whether ``network`` is a small one of the shipped kind, on the CPU."""
        small = numpy_q_network(network) is not None and not hooked(network)
        return small and all(on_host(parameter) for parameter in network.parameters())

    def differentiable(
        self, loss: np.floating, outputs: list[Array], gradient: Callable[[float], Array]
    ) -> Tensor:
        """``loss`` as a tensor with gradients.

        Args:
            loss: a number.
            outputs: of the network's layers, for the rows that the loss depends on.
            gradient: from the loss's weight to the gradient of what the head made of them.
        """
        if not torch.is_grad_enabled():
            return as_tensor(loss)
        into = self._gradients()
        places = self._places

        def differentiate(weights: Sequence[Weight]) -> list[Tensor]:
            with np.errstate(all="ignore"):  # what is not finite shows in the loss
                d_outputs = self.head.backward(gradient(float(weights[0])))
                self.network.backward(outputs, d_outputs, places)
            return into.memory

        (value,) = with_known_gradients((as_tensor(loss),), differentiate, into.leaves)
        return value

    def _gradients(self) -> Gradients:
        """Memory for them, made anew when it does not fit any more."""
        parameters = self.network.parameters
        if self._into is None or not self._into.fit(parameters):
            self._into = Gradients(parameters)
            self._places = [as_array(place) for place in self._into.of(parameters)]
        return self._into

"""One arithmetic for numpy and for torch.

On the CPU numpy begins an operation on a small array several times as fast as torch. On other
devices there is only torch. Their functions have the same names, and mostly the same arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = Any
"""A numpy array, or a tensor."""


def on_host(tensor: Tensor) -> bool:
    """Whether its numbers can be read without waiting for a device."""
    return tensor.is_cpu


def library_for(tensor: Tensor) -> Any:
    """Numpy or torch, whichever is the faster one with small tensors on this device."""
    return np if on_host(tensor) else torch


def as_array(tensor: Tensor) -> Array:
    """``tensor`` for :func:`library_for` it: the same memory, of which autograd knows nothing."""
    tensor = tensor.detach() if tensor.requires_grad else tensor
    return tensor.numpy() if on_host(tensor) else tensor


def as_tensor(array: Array) -> Tensor:
    """An array or one of its numbers, as a tensor."""
    # A third of the time of torch.as_tensor().
    return array if isinstance(array, Tensor) else torch.from_numpy(np.asarray(array))


def as_factor(weight: Tensor | float) -> Array:
    """A number to multiply arrays with; one on a device stays there, nobody waits for it."""
    return weight if isinstance(weight, Tensor) and not on_host(weight) else float(weight)


def softplus(xp: Any, x: Array) -> Array:
    """``log(1 + exp(x))``, which neither overflows nor cancels."""
    size = xp.abs(x)
    return 0.5 * (x + size) + xp.log1p(xp.exp(-size))


def _smooth_l1(xp: Any, error: Array) -> tuple[Array, Array]:
    size = xp.abs(error)
    near = size < 1.0
    return (
        xp.where(near, 0.5 * error * error, size - 0.5),
        xp.where(near, error, xp.sign(error)),
    )


DISTANCES: dict[str, Callable[[Any, Array], tuple[Array, Array]]] = {
    "l2": lambda xp, error: (error * error, 2.0 * error),
    "l1": lambda xp, error: (xp.abs(error), xp.sign(error)),
    "smooth_l1": _smooth_l1,
}
"""How far a value is from its target, and the slope of that, by TorchRL's names."""

"""TorchRL's losses, as far as they stand in the way of faster ones."""

from __future__ import annotations

import inspect
from typing import TypeVar

from torchrl.objectives import LossModule

LossClass = TypeVar("LossClass", bound=type[LossModule])


def plain_forward(loss_class: LossClass) -> LossClass:
    """Class decorator: call ``forward`` as it is written.

    TorchRL wraps the one of every class, an inherited one once more, so that networks which are
    asked for an action take the likeliest one. Who asks none need not wait for that.
    """
    loss_class.forward = inspect.unwrap(loss_class.forward)
    return loss_class

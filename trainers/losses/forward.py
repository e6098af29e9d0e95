"""TorchRL's losses, as far as they stand in the way of faster ones."""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

from torch import Tensor
from torchrl.objectives import LossModule, ValueEstimators

from trainers.arrays import Array, as_array

LossClass = TypeVar("LossClass", bound=type[LossModule])


def plain_forward(loss_class: LossClass) -> LossClass:
    """Class decorator: call ``forward`` as it is written.

    TorchRL wraps the one of every class, an inherited one once more, so that networks which are
    asked for an action take the likeliest one. Who asks none need not wait for that.
    """
    loss_class.forward = inspect.unwrap(loss_class.forward)
    return loss_class


class TD0Only:
    """For a loss of TorchRL's, before it among the bases, that looks one step ahead."""

    def make_value_estimator(self, value_type: Any = None, **hyperparams: Any) -> Any:
        """TorchRL's TD(0), the only one that this loss knows.

        Raises:
            NotImplementedError: another one is asked for.
        """
        if value_type not in (None, ValueEstimators.TD0):
            name = type(self).__name__
            raise NotImplementedError(f"{name} knows TD0 only, got {value_type}: use TorchRL's own")
        return super().make_value_estimator(ValueEstimators.TD0, **hyperparams)  # type: ignore[misc]  # TorchRL's


def shares(loss: Any, weights: Tensor | None, rows: int) -> Array:
    """How much each row of a batch counts: TorchRL's ``reduction`` is a sum of shares.

    In the shape of ``weights``, or a number if all count alike.
    """
    if weights is None or not loss.use_prioritized_weights:
        return 1.0 / rows if loss.reduction == "mean" else 1.0
    share = as_array(weights)
    return share / share.sum() if loss.reduction == "mean" else share


def share_of_rows(loss: Any, data: Any) -> Array:
    """:func:`shares` of a batch ``[B]``: ``[B, 1]``, or a number."""
    weights = data.get(loss.tensor_keys.priority_weight, None)
    return shares(loss, None if weights is None else weights.unsqueeze(-1), len(data))


def discounts(estimator: Any, data: Any) -> Array:
    """Of the next values of a batch ``[B]``: ``gamma``, or its powers ``[B, 1]`` after n steps.

    Both are of ``gamma``'s dtype: by whole numbers numpy would make float64 of it, torch does not.

    Args:
        estimator: of values, or a loss that estimates them itself.
        data: the batch, or its entries.
    """
    gamma, steps = estimator.gamma, data.get(estimator.tensor_keys.steps_to_next_obs, None)
    if steps is None:
        return as_array(gamma)
    return as_array(gamma) ** as_array(steps.to(gamma.dtype))

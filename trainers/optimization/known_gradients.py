"""Losses whose gradients are computed without autograd, but are to be had through it.

Whoever calls ``backward()`` on them, or on what was made of them, gets what autograd would compute.
A :class:`~trainers.phases.Phase` that finds them as they were made goes without its engine, which
takes longer than many a small network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from trainers.optimization.optimizers import conditions

Weight = Tensor | float
# From how much each value counts in what is differentiated, to the gradient of each leaf, which
# may lie in memory that the next call writes to, or be the leaf's own.
Differentiate = Callable[[Sequence[Weight]], Sequence[Tensor]]


class _Known(torch.autograd.Function):
    """Values for autograd, and a function of the gradients that come back to them."""

    @staticmethod
    def forward(
        ctx: Any, values: Sequence[Tensor], differentiate: Differentiate, *leaves: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.known_values, ctx.differentiate, ctx.leaves = len(values), differentiate, leaves
        return tuple(values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        before = [None if leaf.grad is None else leaf.grad.clone() for leaf in ctx.leaves]
        # Copies: whoever gets them may keep them, and the function use its memory again.
        gradients = [gradient.clone() for gradient in _differentiated(ctx, grads)]
        with torch.no_grad():  # autograd adds to what was there, even if it has been written over
            for leaf, gradient in zip(ctx.leaves, before, strict=True):
                if gradient is not None:
                    leaf.grad.copy_(gradient)
        return None, None, *gradients


def with_known_gradients(
    values: Sequence[Tensor], differentiate: Differentiate, leaves: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """``values``, differentiable by ``leaves``, once and all together."""
    return _Known.apply(values, differentiate, *leaves)


def known_gradients(
    terms: Sequence[Tensor],
) -> tuple[Sequence[Tensor], Callable[[], Sequence[Tensor]]] | None:
    """Leaves, and how to have their gradients of the sum of ``terms`` without autograd's engine.

    Only where nothing could tell the difference: None if ``terms`` are not such values as they were
    made, a leaf is frozen, or somebody's hooks wait for its gradient.
    """
    node: Any = terms[0].grad_fn
    number = getattr(node, "known_values", None)
    if number is None or any(term.grad_fn is not node for term in terms):
        return None
    if not all(plain for _, plain in conditions(node.leaves)):
        return None
    weights = [0.0] * number
    for term in terms:
        weights[term.output_nr] += 1.0
    return node.leaves, partial(_differentiated, node, weights)


def _differentiated(node: Any, weights: Sequence[Weight]) -> Sequence[Tensor]:
    if node.differentiate is None:
        raise RuntimeError("these losses have been differentiated before: evaluate them again")
    differentiate, node.differentiate = node.differentiate, None
    return differentiate(weights)

"""TorchRL's loss of truncated quantile critics, faster for the shipped networks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torchrl.objectives import TQCLoss

from trainers.arrays import Array, as_array, as_tensor, library_for
from trainers.config import TQCConfig
from trainers.losses.critics import stacked_critics
from trainers.losses.fast_sac import FastSACLoss
from trainers.losses.forward import plain_forward
from trainers.networks.actors import TanhNormalActor
from trainers.networks.torch_hooks import hooked

_PAIRS = 80_000  # of a quantile and an atom: so many at once stay in a cache


class LeanTQCLoss(TQCLoss):
    """TorchRL's ``TQCLoss``: the same keywords, state, values and gradients.

    Every quantile is compared with every atom of its target, by far the most of the arithmetic:
    that is differentiated in passing, where autograd would keep each step for later.
    """

    def _make_vmap(self) -> None:
        self._vmap_qnetworkN0 = stacked_critics(self)

    def qvalue_v2_loss(self, tensordict: TensorDictBase) -> tuple[Tensor, dict[str, Tensor]]:
        """Equation 10 of Kuznetsov et al. 2020, summed over critics; and the errors' size."""
        weights = self._maybe_get_priority_weight(tensordict)
        target = self.compute_target(tensordict)
        inputs = tensordict.select(*self.qvalue_network.in_keys, strict=False)
        values: Any = self._vmap_qnetworkN0(inputs, self.qvalue_network_params)
        quantiles = values.get(self.tensor_keys.state_action_value)
        each, error = _QuantileHuber.apply(quantiles, target)
        loss = self._reduce_loss(each.sum(0), tensordict=tensordict, weights=weights)
        return loss, {"td_error": error.amax(0)}


@plain_forward
class FastTQCLoss(FastSACLoss, TQCLoss):
    """The same for the shipped networks, with forward and backward pass written out.

    See :class:`~trainers.losses.fast_sac.FastSACLoss`, which it is except for the critics' outputs:
    several quantiles each ``[critics, B, n]`` of the returns.
    """

    @staticmethod
    def fits(actor: nn.Module, critics: list[nn.Module], config: TQCConfig) -> bool:
        """Whether this loss can stand in for TorchRL's."""
        config_fits = config.reduction != "none" and not config.skip_done_states
        return config_fits and type(actor) is TanhNormalActor and not hooked(actor, *critics)

    def _lower(self, xp: Any, values: Array) -> Array:
        """The atoms of all critics together without the highest ``[B, m]``; equation 9."""
        number, rows, _ = values.shape
        atoms = xp.moveaxis(values, 0, 1).reshape(rows, -1)
        dropped = number * self.top_quantiles_to_drop_per_net
        return as_array(as_tensor(atoms).sort(-1)[0])[:, : atoms.shape[1] - dropped]

    def _compared(self, xp: Any, values: Array, target: Array) -> tuple[Array, Array, Array]:
        distance, slope, error = quantile_huber(values, target)
        return distance[..., None], slope, error[..., None]

    def _judged(self, xp: Any, values: Array) -> Array:
        return values.mean((0, 2))[:, None]  # all of them: only targets are truncated

    def _parts(self, passes: Any, values: Array) -> Array:
        return 1.0 / (len(values) * values.shape[-1])


def quantile_huber(quantiles: Array, target: Array) -> tuple[Array, Array, Array]:
    """The quantile Huber loss of critics.

    Equations 8 to 10 of Kuznetsov et al. 2020, https://arxiv.org/abs/2005.04269.

    Args:
        quantiles: ``[critics, B, n]``, at the fractions ``(i + 0.5) / n``.
        target: its atoms, ``[B, m]``.

    Returns:
        The loss ``[critics, B]``, a mean over all pairs; its gradient by the quantiles
        ``[critics, B, n]``; the mean size of what it is made of ``[critics, B]``.
    """
    xp = library_for(as_tensor(target))
    number, atoms = quantiles.shape[-1], target.shape[-1]
    fractions = as_array((torch.arange(number, device=as_tensor(target).device) + 0.5) / number)
    rows = max(len(target), 1)
    if xp is not torch:  # whose devices want few and large operations
        rows = math.ceil(_PAIRS / (len(quantiles) * number * atoms))
    parts = [
        _sums(xp, quantiles[:, begin : begin + rows], target[begin : begin + rows], fractions)
        for begin in range(0, max(len(target), 1), rows)
    ]
    pairs = number * atoms
    loss, slope, error = (xp.concatenate(part, 1) for part in zip(*parts, strict=True))
    return loss / pairs, slope / -pairs, error / pairs


def _sums(xp: Any, quantiles: Array, target: Array, fractions: Array) -> tuple[Array, ...]:
    """The loss, its slope by the target and the size of the errors, summed over pairs."""
    apart = target[:, None] - quantiles[..., None]  # [critics, rows, n, m]
    loss, slope = 0.0, 0.0
    # Errors above zero weigh by the fraction, those below by the rest: the same for all atoms.
    for weight, low, high in ((fractions, 0.0, 1.0), (1.0 - fractions, -1.0, 0.0)):
        clipped = xp.clip(apart, low, high)  # the slope of Huber's function
        loss += weight * xp.einsum("...m->...", clipped * (apart - 0.5 * clipped))
        slope += weight * xp.einsum("...m->...", clipped)
    return loss.sum(-1), slope, xp.einsum("...nm->...", xp.abs(apart))


class _QuantileHuber(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, quantiles: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        rows = target.shape[:-1]
        with np.errstate(all="ignore"):  # what is not finite shows in the loss
            found = quantile_huber(
                as_array(quantiles.reshape(len(quantiles), -1, quantiles.shape[-1])),
                as_array(target.reshape(-1, target.shape[-1])),
            )
        loss, slope, error = map(as_tensor, found)
        ctx.save_for_backward(slope.view_as(quantiles))
        error = error.view(-1, *rows)
        ctx.mark_non_differentiable(error)
        return loss.view(-1, *rows), error

    @staticmethod
    def backward(ctx: Any, d_loss: Tensor, _: Any) -> tuple[Tensor, None]:  # type: ignore[override]  # torch's signature
        (slope,) = ctx.saved_tensors
        return d_loss.unsqueeze(-1) * slope, None

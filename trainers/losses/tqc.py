"""TorchRL's loss of truncated quantile critics, faster for the shipped critics."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.objectives import TQCLoss

from trainers.losses.critics import stacked_critics


class FastTQCLoss(TQCLoss):
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
        each, error = quantile_huber(quantiles, target)
        loss = self._reduce_loss(each.sum(0), tensordict=tensordict, weights=weights)
        return loss, {"td_error": error.amax(0)}


def quantile_huber(quantiles: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The quantile Huber loss of critics, and the mean size of what it is made of.

    Equations 8 to 10 of Kuznetsov et al. 2020, https://arxiv.org/abs/2005.04269.

    Args:
        quantiles: ``[critics, ..., n]``, at the fractions ``(i + 0.5) / n``.
        target: its atoms, ``[..., m]``; no gradient goes there.

    Returns:
        Both ``[critics, ...]``, means over all pairs; the second has no gradient.
    """
    return _QuantileHuber.apply(quantiles, target)


class _QuantileHuber(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, quantiles: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        number, pairs = quantiles.shape[-1], quantiles.shape[-1] * target.shape[-1]
        fractions = (torch.arange(number, device=target.device).unsqueeze(-1) + 0.5) / number
        apart = target.unsqueeze(-2) - quantiles.unsqueeze(-1)  # [critics, ..., n, m]
        error = apart.abs().sum((-1, -2)) / pairs
        slope = apart.clamp(-1.0, 1.0)
        weighted = torch.where(apart < 0, 1.0 - fractions, fractions).mul_(slope)
        ctx.save_for_backward(weighted.sum(-1) / -pairs)
        huber = apart.sub_(slope, alpha=0.5).mul_(weighted)  # slope * (apart - slope / 2), weighted
        ctx.mark_non_differentiable(error)
        return huber.sum((-1, -2)) / pairs, error

    @staticmethod
    def backward(ctx: Any, d_loss: Tensor, _: Any) -> tuple[Tensor, None]:  # type: ignore[override]  # torch's signature
        (gradient,) = ctx.saved_tensors
        return d_loss.unsqueeze(-1) * gradient, None

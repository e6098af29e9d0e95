"""Running statistics, kept inside the networks that use them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class RunningNorm(nn.Module):
    """Normalises by the mean and standard deviation of all that :meth:`update` has seen.

    The statistics are buffers in float64: they travel, and are saved, with the network. Nothing but
    :meth:`update` moves them, so the same input gives the same output until then, in training as in
    evaluation. Before the first update it changes nothing but outliers.

    Args:
        shape: of one value.
        clip: bound of the normalised values.
    """

    mean: Tensor
    var: Tensor
    count: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, shape: Sequence[int], clip: float = 10.0) -> None:
        super().__init__()
        self.clip = clip
        self.register_buffer("mean", torch.zeros(list(shape), dtype=torch.float64))
        self.register_buffer("var", torch.ones(list(shape), dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        # What a forward pass takes of them, in float32.
        self.register_buffer("shift", torch.zeros(list(shape)))
        self.register_buffer("scale", torch.ones(list(shape)))

    @property
    def std(self) -> Tensor:
        """Standard deviation ``[*shape]``, never quite zero."""
        return (self.var + 1e-8).sqrt()

    def forward(self, values: Tensor) -> Tensor:
        """Normalised ``values`` ``[..., *shape]``, in their own type."""
        normal = (values - self.shift) * self.scale
        return normal.clamp(-self.clip, self.clip).to(values.dtype)

    @torch.no_grad()
    def update(self, values: Tensor) -> None:
        """Take ``values`` ``[..., *shape]`` into the statistics (Chan et al. 1979)."""
        if values.numel() == 0:  # there are none, or there is nothing in them
            return
        values = values.reshape(-1, *self.mean.shape).double()
        mean, var = values.mean(0), values.var(0, correction=0)
        total = self.count + len(values)
        share = len(values) / total
        shift = mean - self.mean
        # The variance between the two means, besides the one around each.
        self.var.lerp_(var, share).add_(shift.square() * share * (1 - share))
        self.mean.add_(shift * share)
        self.count.copy_(total)
        self.shift.copy_(self.mean)
        self.scale.copy_(1.0 / self.std)

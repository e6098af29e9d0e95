"""Batch renormalisation: layers that learn what their inputs are like."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from trainers.networks.actors import TanhNormalActor


class BatchRenorm(nn.Module):
    """Batch renormalisation, algorithm 1 of Ioffe 2017, https://arxiv.org/abs/1702.03275.

    In training it normalises by mean and deviation of the batch, and corrects the result towards
    the running ones by ``r`` and ``d``, which count as constants. During the warm-up it does not
    (batch normalisation). Else it normalises by the running ones alone.

    TorchRL's ``BatchRenorm1d`` corrects twice as much after twice its warm-up, and so on.

    Args:
        num_features: length of the last dimension of its inputs; all others are the batch.
        momentum: share of a batch's statistics that moves into the running ones.
        warm_up: batches before the correction.
        eps: added to variances.
        max_r: bounds ``r`` within ``[1 / max_r, max_r]``.
        max_d: bounds ``d`` within ``[-max_d, max_d]``.
    """

    running_mean: Tensor
    running_var: Tensor
    batches: Tensor

    def __init__(
        self,
        num_features: int,
        momentum: float = 0.01,
        warm_up: int = 100_000,
        eps: float = 1e-3,
        max_r: float = 3.0,
        max_d: float = 5.0,
    ) -> None:
        super().__init__()
        self.momentum, self.warm_up, self.eps = momentum, warm_up, eps
        self.max_r, self.max_d = max_r, max_d
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, inputs: Tensor) -> Tensor:
        statistics = (self.running_mean, self.running_var, self.batches)
        rows = inputs.reshape(-1, inputs.shape[-1])
        return self.normalize(rows, self.weight, self.bias, *statistics).view_as(inputs)

    def normalize(
        self,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        batches: Tensor,
    ) -> Tensor:
        """Normalise ``inputs`` ``[..., B, n]`` by other layers' parameters and statistics.

        They are ``[..., n]`` (``batches`` ``[...]``): those of several layers can be stacked.
        """
        if not self.training:
            scale = weight * (running_var + self.eps).rsqrt()
            shift = bias - running_mean * scale
            return torch.addcmul(shift.unsqueeze(-2), inputs, scale.unsqueeze(-2))
        mean = inputs.mean(-2)
        centered = inputs - mean.unsqueeze(-2)
        var = centered.square().mean(-2)
        std = (var + self.eps).sqrt()
        with torch.no_grad():
            running_std = (running_var + self.eps).sqrt()
            warm = (batches >= self.warm_up).unsqueeze(-1)
            r = torch.where(warm, (std / running_std).clamp(1.0 / self.max_r, self.max_r), 1.0)
            d = ((mean - running_mean) / running_std).clamp(-self.max_d, self.max_d)
            d = torch.where(warm, d, 0.0)
            running_mean += self.momentum * (mean - running_mean)
            running_var += self.momentum * (var - running_var)
            batches += 1
        scale, shift = weight * r / std, bias + weight * d
        return torch.addcmul(shift.unsqueeze(-2), centered, scale.unsqueeze(-2))


@contextmanager
def frozen(net: nn.Module) -> Iterator[None]:
    """Inside it, batch renormalisation in ``net`` goes by running statistics, and keeps them."""
    learning = [m for m in net.modules() if isinstance(m, BatchRenorm) and m.training]
    for module in learning:
        module.training = False
    try:
        yield
    finally:
        for module in learning:
            module.training = True


class RenormActor(TanhNormalActor):
    """A squashed Gaussian with batch renormalisation, which acts by the running statistics."""

    def mode(self, observation: Tensor) -> Tensor:
        """The deterministic action, the squashed mean."""
        with frozen(self):
            return super().mode(observation)

    def sample(self, observation: Tensor) -> Tensor:
        """An action drawn from the policy."""
        with frozen(self):
            return super().sample(observation)

"""Networks that look at pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainers.networks.mlps import mlp

Inputs = int | tuple[int, int, int]
"""What a network gets to see: the length of a vector, or the shape ``(C, H, W)`` of pictures."""


class NatureCNN(nn.Module):
    """The convolutions of Mnih et al. 2015: ``[..., C, H, W]`` to ``[..., num_features]``.

    Pictures come as uint8, as they are kept, and are brought to [0, 1] here.

    Args:
        shape: channels, height and width; at least 36 x 36.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(shape[0], 32, 8, stride=4), nn.ReLU()),
            *(nn.Conv2d(32, 64, 4, stride=2), nn.ReLU()),
            *(nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten()),
        )
        with torch.no_grad():
            self.num_features = self.layers(torch.zeros(1, *shape)).shape[-1]

    def forward(self, pictures: Tensor) -> Tensor:
        batch = pictures.shape[:-3]
        values = pictures.reshape(-1, *pictures.shape[-3:])
        if values.device.type == "cpu":
            # Channels last in memory: gradients of convolutions take 2/3 of the time. Not asked for
            # by that name, which vmap does not know.
            values = values.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        return self.layers(values.float() / 255.0).reshape(*batch, self.num_features)


def make_net(
    inputs: Inputs, num_outputs: int, hidden: Sequence[int], activation: str
) -> nn.Sequential:
    """An MLP on vectors; on pictures one behind :class:`NatureCNN`. ``hidden`` is the MLP's."""
    if isinstance(inputs, int):
        return mlp(inputs, num_outputs, hidden, activation)
    pictures = NatureCNN(inputs)
    return nn.Sequential(pictures, *mlp(pictures.num_features, num_outputs, hidden, activation))

"""One number says whether gradients are finite, however many they are."""

from __future__ import annotations

import math

import pytest
import torch

from trainers.phases import total_norm

SMALL, LARGE = 10, 100_000  # summed up by numpy, and by all of torch's threads


@pytest.mark.parametrize("sizes", [(SMALL,), (LARGE,), (SMALL, LARGE, 1), (1, 1, SMALL, LARGE)])
@pytest.mark.parametrize("bad", [None, math.nan, math.inf])
def test_the_norm_of_all_gradients(sizes: tuple[int, ...], bad: float | None) -> None:
    torch.manual_seed(0)
    gradients = [torch.randn(2, size // 2) if size > 1 else torch.randn(1) for size in sizes]
    if bad is not None:
        gradients[-1].view(-1)[-1] = bad
    norm = total_norm(gradients)
    assert norm.dtype is torch.float32
    assert norm.shape == ()
    expected = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    torch.testing.assert_close(norm, expected, equal_nan=True)

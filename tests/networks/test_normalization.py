"""Running statistics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.states import assert_same

from trainers.networks.normalization import RunningNorm
from trainers.saving import checkpoint


def values(*shape: int, seed: int = 0) -> torch.Tensor:
    """Entries far from zero, each column on a scale of its own."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.logspace(-3, 4, shape[-1])
    return (torch.randn(*shape, generator=generator) + 100.0) * scale


@pytest.mark.parametrize("sizes", [[12], [1, 1, 5, 1], [3, 400, 2]])
def test_statistics_are_numpy_s_over_all_values(sizes: list[int]) -> None:
    norm = RunningNorm([3])
    batches = [values(2, size, 3, seed=size) for size in sizes]
    for batch in batches:
        norm.update(batch)
    every = torch.cat([batch.reshape(-1, 3) for batch in batches]).double().numpy()
    assert float(norm.count) == len(every)
    np.testing.assert_allclose(norm.mean.numpy(), every.mean(0), rtol=1e-12)
    np.testing.assert_allclose(norm.var.numpy(), every.var(0), rtol=1e-9)
    np.testing.assert_allclose(norm.std.numpy(), np.sqrt(every.var(0) + 1e-8), rtol=1e-9)


def test_numbers_without_a_shape_have_statistics_too() -> None:
    norm, numbers = RunningNorm([]), values(4, 7)
    norm.update(numbers[:1])
    norm.update(numbers[1:])
    np.testing.assert_allclose(float(norm.mean), numbers.double().numpy().mean(), rtol=1e-12)
    np.testing.assert_allclose(float(norm.var), numbers.double().numpy().var(), rtol=1e-9)


def test_what_was_seen_comes_out_normal() -> None:
    norm, seen = RunningNorm([3]), values(1_000, 3)
    norm.update(seen)
    normal = norm(seen)
    assert normal.dtype == torch.float32
    torch.testing.assert_close(normal.mean(0), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(normal.std(0), torch.ones(3), atol=1e-2, rtol=0)


def test_outliers_are_cut_off() -> None:
    norm = RunningNorm([1], clip=2.0)
    assert norm(torch.tensor([[-5.0], [1.5], [9.0]])).flatten().tolist() == [-2.0, 1.5, 2.0]


def test_a_constant_is_no_division_by_zero() -> None:
    norm = RunningNorm([1])
    norm.update(torch.full((10, 1), 3.0))
    assert norm(torch.full((2, 1), 3.0)).tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize("train", [True, False])
def test_only_an_update_moves_the_statistics(train: bool) -> None:
    norm = RunningNorm([3]).train(train)
    norm.update(values(50, 3))
    before = {key: value.clone() for key, value in norm.state_dict().items()}
    first, again = norm(values(50, 3, seed=1)), norm(values(50, 3, seed=1))
    assert torch.equal(first, again)
    assert_same(norm.state_dict(), before)


def test_the_state_travels_with_the_network(tmp_path: Path) -> None:
    norm, other = RunningNorm([3]), RunningNorm([3])
    norm.update(values(50, 3))
    checkpoint.save(tmp_path / "c", norm.state_dict())
    other.load_state_dict(checkpoint.load(tmp_path / "c"))
    assert_same(other.state_dict(), norm.state_dict())
    norm.update(values(50, 3, seed=1))
    other.update(values(50, 3, seed=1))
    assert_same(other.state_dict(), norm.state_dict())


def test_values_may_have_nothing_in_them() -> None:
    norm = RunningNorm([0])
    norm.update(torch.zeros(3, 4, 0))
    assert norm(torch.zeros(2, 0)).shape == (2, 0)

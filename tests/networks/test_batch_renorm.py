"""Batch renormalisation against the arithmetic of its paper, written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from trainers.networks.batch_renorm import BatchRenorm, frozen
from trainers.networks.mlps import mlp

WIDTH, MOMENTUM, EPS = 4, 0.1, 1e-3


def layer(warm_up: int) -> BatchRenorm:
    torch.manual_seed(0)
    made = BatchRenorm(WIDTH, momentum=MOMENTUM, warm_up=warm_up, max_r=1.5, max_d=0.5)
    with torch.no_grad():
        made.weight.uniform_(0.5, 2.0)
        made.bias.normal_()
    return made


def inputs(seed: int) -> Tensor:
    """Columns unlike one another: some far from a standard normal, so that r and d are clipped."""
    generator = torch.Generator().manual_seed(seed)
    scale, shift = torch.tensor([1.0, 9.0, 0.1, 2.0]), torch.tensor([0.1, 5.0, -3.0, 0.0])
    return torch.randn(32, WIDTH, generator=generator) * scale + shift


@pytest.mark.parametrize("warm_up", [0, 2, 100])
def test_it_is_algorithm_1(warm_up: int) -> None:
    mine, mean, var = layer(warm_up), torch.zeros(WIDTH), torch.ones(WIDTH)
    clipped = set()
    for step in range(6):
        x = inputs(step).requires_grad_()
        out = mine(x)
        batch_mean, batch_std = x.mean(0), (x.var(0, correction=0) + EPS).sqrt()
        running_std = (var + EPS).sqrt()
        r = (batch_std / running_std).detach().clamp(1 / 1.5, 1.5)
        d = ((batch_mean - mean) / running_std).detach().clamp(-0.5, 0.5)
        if step < warm_up:
            r, d = torch.ones(WIDTH), torch.zeros(WIDTH)
        clipped |= set(r.tolist() + d.tolist()) & {1.5, 0.5, -0.5}
        expected = ((x - batch_mean) / batch_std * r + d) * mine.weight + mine.bias
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
        weights = torch.randn(out.shape)
        ours = torch.autograd.grad((out * weights).sum(), (x, mine.weight, mine.bias))
        theirs = torch.autograd.grad((expected * weights).sum(), (x, mine.weight, mine.bias))
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
        mean = mean + MOMENTUM * (batch_mean.detach() - mean)
        var = var + MOMENTUM * (x.detach().var(0, correction=0) - var)
        torch.testing.assert_close(mine.running_mean, mean)
        torch.testing.assert_close(mine.running_var, var)
    assert int(mine.batches) == 6
    assert len(clipped) > 1 or warm_up > 6


def test_frozen_it_goes_by_its_running_statistics_and_keeps_them() -> None:
    mine = layer(0)
    mine(inputs(0))
    before = {k: v.clone() for k, v in mine.state_dict().items()}
    with frozen(nn.Sequential(mine)):
        out = mine(inputs(1))
        alone = mine(inputs(1)[:1])
    assert mine.training
    std = (mine.running_var + EPS).sqrt()
    expected = (inputs(1) - mine.running_mean) / std * mine.weight + mine.bias
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(alone, out[:1])
    assert all(torch.equal(v, before[k]) for k, v in mine.state_dict().items())
    mine.eval()
    with frozen(mine):
        pass
    assert not mine.training


def test_several_batch_dimensions_are_one_batch() -> None:
    one, two = layer(0), layer(0)
    torch.testing.assert_close(one(inputs(0)).view(4, 8, WIDTH), two(inputs(0).view(4, 8, WIDTH)))
    torch.testing.assert_close(one.running_var, two.running_var)


def test_a_network_is_normalised_before_its_first_layer_and_after_its_activations() -> None:
    net = mlp(3, 2, [8, 4], "tanh", norm=BatchRenorm)
    kinds = [type(module) for module in net]
    hidden = [nn.Linear, nn.Tanh, BatchRenorm]
    assert kinds == [BatchRenorm, *hidden, *hidden, nn.Linear]
    assert [len(m.weight) for m in net if isinstance(m, BatchRenorm)] == [3, 8, 4]

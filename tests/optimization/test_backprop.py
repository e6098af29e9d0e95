"""Passes through perceptrons: what autograd computes, in memory that they share."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from trainers.optimization.backprop import Memory, Perceptrons, Scratch

ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.SiLU, nn.GELU, nn.ELU, nn.LeakyReLU)
ROWS, SIZES = 7, (5, 6, 4, 2)


def make_net(activation: type[nn.Module]) -> nn.Sequential:
    """Two hidden layers of different widths."""
    first, second, third = (nn.Linear(*SIZES[i : i + 2]) for i in range(3))
    return nn.Sequential(first, activation(), second, activation(), third)


def perceptrons(nets: Sequence[nn.Sequential], activation: type[nn.Module]) -> Perceptrons:
    """All ``nets`` passed together."""
    each = [list(net.parameters()) for net in nets]
    return Perceptrons([torch.stack(same) for same in zip(*each, strict=True)], activation)


def owned(memory: Memory) -> set[int]:
    """Where it writes to."""
    tensors: list[Tensor] = [*memory.results, *memory.activated, *memory.gradients]
    return {tensor.data_ptr() for tensor in tensors}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_way_back_is_autograds_whoever_passes_in_between(activation: type[nn.Module]) -> None:
    """With the same scratch, forward only, and before the results were looked at."""
    torch.manual_seed(0)
    nets, others = ([make_net(activation) for _ in range(2)] for _ in range(2))
    trained, asked = (perceptrons(each, activation) for each in (nets, others))
    scratch, inputs = Scratch(), torch.randn(2, ROWS, SIZES[0])
    memory = trained.memory(inputs, scratch)
    forward_only = asked.memory(inputs[:, :3], scratch, way_back=False)
    again = asked.memory(inputs[:, :3], scratch)

    values = trained.forward(memory)
    answers = asked.forward(forward_only)
    asked.forward(again)
    expected = torch.stack([net(each) for net, each in zip(nets, inputs, strict=True)])
    torch.testing.assert_close(values, expected)
    for net, each, answer in zip(others, inputs, answers, strict=True):
        torch.testing.assert_close(answer, net(each[:3]))

    weights = torch.randn_like(expected)
    gradients = [torch.empty(2, *p.shape) for p in nets[0].parameters()]
    memory.gradients[-1].copy_(weights)
    trained.backward(memory, gradients)
    expected.backward(weights)
    for index, net in enumerate(nets):
        for parameter, gradient in zip(net.parameters(), gradients, strict=True):
            torch.testing.assert_close(gradient[index], parameter.grad)


def test_what_is_not_looked_at_again_is_in_the_same_memory() -> None:
    """Hidden results that no way back needs, and gradients of hidden results."""
    net = perceptrons([make_net(nn.ReLU)], nn.ReLU)
    scratch, inputs = Scratch(), torch.randn(1, ROWS, SIZES[0])
    one, two = net.memory(inputs, scratch), net.memory(inputs, scratch)
    forward_only = net.memory(inputs, scratch, way_back=False)
    hidden = {tensor.data_ptr() for tensor in one.gradients[:-1]}
    assert owned(one) & owned(two) == owned(one) & owned(forward_only) == hidden
    assert len(hidden) == 2


@pytest.mark.parametrize("change", [{"dtype": torch.float64}, {"device": "meta"}])
def test_a_scratch_lends_what_is_asked_for(change: dict[str, object]) -> None:
    """Smaller parts of the same memory; other memory for other numbers or more of them."""
    scratch, like = Scratch(), torch.empty(0)
    first = scratch.lend(0, like, (2, 3))
    assert scratch.lend(0, like, (5,)).data_ptr() == first.data_ptr()
    assert scratch.lend(1, like, (5,)).data_ptr() != first.data_ptr()
    assert scratch.lend(0, like, (7,)).shape == (7,)
    other = torch.empty(0, **change)  # type: ignore[call-overload]  # either of them
    lent = scratch.lend(0, other, (2,))
    assert (lent.dtype, lent.device) == (other.dtype, other.device)

"""Two losses of an actor and a critic, side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn
from torchrl.data import Bounded, Categorical

from trainers.algorithms.on_policy import Networks, make_networks
from trainers.config import NetworkConfig

OBSERVATIONS, BATCH = 4, 64
SPECS: dict[str, Any] = {"gaussian": Bounded(-1.0, 1.0, (3,)), "categorical": Categorical(5)}

Scaled = Callable[[TensorDictBase], None]


def networks_of(
    config: Any,
    space: str = "gaussian",
    hidden: list[int] | None = None,
    activation: str = "tanh",
    lower_bound: float | None = None,
) -> Networks:
    """Networks no parameter of which is zero, and that have seen observations."""
    torch.manual_seed(0)
    network = NetworkConfig(hidden=[16, 16] if hidden is None else hidden, activation=activation)
    made = make_networks(OBSERVATIONS, SPECS[space], network, config)
    if lower_bound is not None and space == "gaussian":
        made.actor[0].module[1].to_parameters.scale_lb = lower_bound
    with torch.no_grad():
        for parameter in [*made.actor.parameters(), *made.critic.parameters()]:
            parameter.add_(0.3 * torch.randn(parameter.shape))
    if made.norm is not None:
        made.norm.update(batch(space, seed=9)["observation"][1:])  # all but the one far out
    return made


def batch(space: str = "gaussian", seed: int = 1, size: tuple[int, ...] = (BATCH,)) -> TensorDict:
    """A minibatch; one observation is far out, ratios lie on both sides of any clip."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*last: int) -> Tensor:
        return torch.randn(*size, *last, generator=generator)

    observation = 3.0 * normal(OBSERVATIONS) + 1.0
    observation.view(-1, OBSERVATIONS)[0, 0] = 1e3
    if space == "gaussian":
        action = normal(3)
        log_prob = -0.5 * action.square().sum(-1) - 2.76
    else:
        action = torch.randint(0, 5, size, generator=generator)
        log_prob = torch.full(size, -1.6)
    data = {
        "observation": observation,
        "action": action,
        "action_log_prob": log_prob + 0.3 * normal(),
        "advantage": 2.0 * normal(1) + 0.5,
        "value_target": 3.0 * normal(1) - 1.0,
    }
    return TensorDict(data, size)


def evaluated(loss: Any, data: TensorDictBase, scale: Scaled | None = None) -> TensorDictBase:
    """The losses of a minibatch, gradients in place."""
    losses = loss(data)
    if scale is not None:
        scale(losses)
    sum(value for key, value in losses.items() if key.startswith("loss_")).backward()
    return losses


def gradients(loss: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad for n, p in loss.named_parameters() if p.grad is not None}


def near(one: Tensor, two: Tensor, tolerance: float = 1e-5) -> bool:
    """Equal relative to the largest entry, or to 1 if that is larger.

    Not bit for bit: the same float32 numbers are added up in another order, or by another library.
    That has made 2e-6 at most, with any instructions that could be tried.
    """
    one, two = one.detach(), two.detach()
    return bool((one - two).abs().max() <= tolerance * max(1.0, float(two.abs().max())))


def assert_equal(ours: Any, theirs: Any, data: TensorDict, scale: Scaled | None = None) -> None:
    """All entries, by their names, and the gradients of all parameters."""
    our_losses = evaluated(ours, data.clone(), scale)
    their_losses = evaluated(theirs, data.clone(), scale)
    assert set(our_losses.keys()) == set(their_losses.keys())
    for key, value in their_losses.items():
        assert our_losses[key].dtype == value.dtype, key
        assert our_losses[key].shape == value.squeeze().shape, key  # one is [1] at TorchRL's
        assert our_losses[key].requires_grad == value.requires_grad, key
        assert near(our_losses[key], value.squeeze()), key
    our_gradients, their_gradients = gradients(ours), gradients(theirs)
    assert our_gradients.keys() == their_gradients.keys()
    assert our_gradients.keys() == {name for name, _ in theirs.named_parameters()}
    for name, value in their_gradients.items():
        assert value.abs().max() > 0, name
        assert our_gradients[name].dtype == value.dtype, name
        assert near(our_gradients[name] / value.abs().max(), value / value.abs().max()), name


def assert_through_torchrl(ours: Any, theirs: Any, data: Any) -> None:
    """Entries and gradients are those of TorchRL's code, bit for bit."""
    our_losses, their_losses = evaluated(ours, data.clone()), evaluated(theirs, data.clone())
    assert our_losses.keys() == their_losses.keys()
    for key, value in their_losses.items():
        torch.testing.assert_close(our_losses[key], value, rtol=0, atol=0, equal_nan=True)
    for name, value in gradients(theirs).items():
        torch.testing.assert_close(gradients(ours)[name], value, rtol=0, atol=0, equal_nan=True)

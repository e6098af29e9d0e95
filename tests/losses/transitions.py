"""A batch of transitions, and two losses of it side by side."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn
from torchrl.data import Bounded

OBSERVATIONS, ACTIONS, CHOICES, BATCH = 5, 3, 4, 64
UNIT = ([-1.0] * ACTIONS, [1.0] * ACTIONS)
UNEVEN = ([-2.0, -0.5, 1.0], [3.0, 0.5, 9.0])
SPEC = Bounded(-torch.ones(ACTIONS), torch.ones(ACTIONS), (ACTIONS,))

# What a batch may bring beside the transitions.
EXTRAS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "weights": ("priority_weight",),
    "weights and steps": ("priority_weight", "steps_to_next_obs"),
}


def batch(
    seed: int = 1,
    extra: tuple[str, ...] = (),
    length: int | None = None,
    discrete: bool = False,
) -> TensorDict:
    """Transitions, some terminated, some truncated; with a ``length``, slices of so many each."""
    shape = [BATCH] if length is None else [BATCH // length, length]
    generator = torch.Generator().manual_seed(seed)

    def normal(*last: int) -> Tensor:
        return torch.randn(*shape, *last, generator=generator)

    terminated = normal(1) > 1
    more = {
        "priority_weight": normal().sigmoid(),
        "steps_to_next_obs": (normal(1) > 0).long() + 1,
    }
    chosen, moved = torch.randint(CHOICES, shape, generator=generator), normal(ACTIONS).tanh()
    return TensorDict(
        {
            **{key: more[key] for key in extra},
            "observation": normal(OBSERVATIONS),
            "action": chosen if discrete else moved,
            "next": {
                "observation": normal(OBSERVATIONS),
                "reward": 2.0 * normal(1),
                "terminated": terminated,
                "done": terminated | (normal(1) > 1),
            },
        },
        shape,
    )


def moved(loss: Any, by: float = 0.1) -> Any:
    """The loss, with targets away from their sources and statistics away from 0 and 1."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in loss.state_dict().items():
        target = name.startswith("target_") and ("weight" in name or "bias" in name)
        if isinstance(tensor, Tensor) and (target or "running" in name):
            tensor.add_(torch.rand(tensor.shape, generator=generator), alpha=by)
    return loss


def near(one: Tensor, two: Tensor, tolerance: float = 1e-5) -> bool:
    """Equal relative to the largest entry.

    Not bit for bit: the same float32 numbers are added up in another order, or by another library.
    That has made 3e-6 at most, with any instructions that could be tried.
    """
    one, two = one.detach(), two.detach()
    return bool((one - two).abs().max() <= tolerance * two.abs().max() + 1e-12)


def assert_near(one: dict[str, Tensor], two: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    """Each, by its name."""
    assert one.keys() == two.keys()
    for key, value in two.items():
        assert one[key].shape == value.shape, key
        assert near(one[key], value, tolerance), key


def assert_learnt_alike(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    """Parameters after twenty updates with a learning rate of 1e-3.

    Gradients differ by some 1e-9, for their sums are taken in another order. Adam divides its first
    step by the gradient's own size: where a sum has cancelled to 1e-8 that moves a parameter by
    2e-6, the most there was with any instructions that could be tried. Most are equal.
    """
    assert one.keys() == two.keys()
    for name, value in two.items():
        torch.testing.assert_close(one[name], value, rtol=1e-5, atol=3e-6, msg=name)


def differentiate(losses: TensorDictBase) -> None:
    """The gradients of the sum of all losses."""
    sum(value.sum() for key, value in losses.items() if key.startswith("loss")).backward()


def gradients(loss: nn.Module) -> dict[str, Tensor]:
    """Those that there are."""
    return {n: p.grad for n, p in loss.named_parameters() if p.grad is not None}


def differentiated(losses: Any, loss: nn.Module) -> dict[str, Tensor]:
    """Copies of the gradients of the sum of all losses."""
    loss.zero_grad(set_to_none=True)
    differentiate(losses)
    return {name: gradient.clone() for name, gradient in gradients(loss).items()}

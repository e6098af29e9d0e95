"""What a rollout has to be like, and what of it is saved."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase

from trainers.errors import NonFiniteError


def check_shapes(rollout: TensorDictBase) -> None:
    """``[B]`` against ``[B, 1]`` broadcasts to ``[B, B]`` without an error: refuse it here."""
    expected = (*rollout.batch_size, 1)
    following = rollout.get("next", None)
    for key in ("reward", "done", "terminated"):
        value = None if following is None else following.get(key, None)
        if value is not None and tuple(value.shape) != expected:
            raise ValueError(
                f"('next', {key!r}) of the rollout has shape {list(value.shape)}; with batch size "
                f"{list(rollout.batch_size)} it must be {list(expected)}"
            )


def check_values(rollout: TensorDictBase, frames: int) -> None:
    """What is not finite is not stored; our own collector has looked before."""
    for key in ("observation", ("next", "observation"), ("next", "reward")):
        value = rollout.get(key, None)
        if value is not None and value.is_floating_point() and not torch.isfinite(value).all():
            raise NonFiniteError(
                f"{key!r} of a rollout is not finite after frame {frames}: it was not stored",
                {"rollout": rollout.to_dict()},
            )


def rollout_state(rollout: TensorDictBase) -> dict[str, Any]:
    """A rollout as nested tensors and numbers."""
    leaves = rollout.flatten_keys("/")
    return {"batch_size": list(rollout.batch_size), "data": dict(leaves.items())}


def rollout_from(state: dict[str, Any]) -> TensorDictBase:
    """Restore :func:`rollout_state`."""
    return TensorDict(state["data"], state["batch_size"]).unflatten_keys("/")

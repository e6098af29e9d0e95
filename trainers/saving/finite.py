"""Numbers that must not get into a checkpoint: whoever goes on from it would learn from them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from trainers.errors import NonFiniteError
from trainers.saving.restoring import component

_TRAINED = ("phases", "policy", "rollout")
_REMEMBERED = ("collector", "hooks")
# An environment may keep anything there; what it observes was looked at when it came.
_OWN = "/collector/open_episodes/"


def refuse_non_finite(path: str, value: Any) -> None:
    """Look at a tensor or number of a state that is about to be saved.

    Nowhere that is learnt from may there be a NaN, nor an infinity in networks and optimizers. But
    for single numbers, which may be bounds that there are not; and a hook may remember infinity
    (the best of none). Metrics may be anything: they are but told.

    Args:
        path: where it is in the state, ``/phases/0/loss/...``.
        value: on whatever device.

    Raises:
        NonFiniteError: there is one; it names the component.
    """
    top = path.split("/")[1]
    if top not in (*_TRAINED, *_REMEMBERED) or path.startswith(_OWN):
        return
    bad = _first_bad(value, only_nan=top in _REMEMBERED)
    if bad is not None:
        raise NonFiniteError(
            f"{component(path)}: {path[1:]} is {bad}: it was not saved",
            {"path": path, "value": value},
        )


def _first_bad(value: Any, only_nan: bool) -> float | None:
    if not isinstance(value, Tensor):
        return value if isinstance(value, float) and math.isnan(value) else None
    # The sum is quick, and not finite if a number is not; it may also overflow.
    if not value.is_floating_point() or math.isfinite(value.sum().item()):
        return None
    bad = value.isnan() if only_nan or value.numel() == 1 else ~torch.isfinite(value)
    return value[bad][0].item() if bad.any() else None

"""The collector's copy of the policy follows the trained one."""

from __future__ import annotations

from typing import Any

from tensordict import TensorDictBase

from trainers.trainer import Trainer


class WeightSync:
    """Sends the weights to a collector that keeps its own; register it at ``post_steps``, and at
    ``setup`` for what a checkpoint has brought.

    A collector whose policy shares its storage with the loss needs nothing sent.
    """

    def __init__(self, collector: Any) -> None:
        self._update = getattr(collector, "update_policy_weights_", None)

    def __call__(self, trainer: Trainer, rollout: TensorDictBase | None = None) -> None:
        if self._update is not None:
            self._update()

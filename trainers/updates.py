"""How many updates an iteration owes: the difference between on- and off-policy training."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from trainers.trainer import Trainer


class Updates(Protocol):
    """How many updates an iteration owes: the difference between on- and off-policy training.

    One with ``state_dict()`` and ``load_state_dict(state, frames, updates)`` is saved with the run.
    """

    @property
    def num_epochs(self) -> int:
        """Passes over a rollout."""
        ...

    @property
    def interruptible(self) -> bool:
        """Whether a run may stop (and be saved) between two updates of an iteration."""
        ...

    def due(self, trainer: Trainer) -> int:
        """Updates still owed in the current epoch."""
        ...


@dataclass(frozen=True)
class Epochs:
    """On-policy: ``num_epochs`` passes of ``minibatches`` updates over every rollout.

    With ``minibatch_size`` they are as many as it takes to see every frame of the rollout, as the
    hooks left it.
    """

    num_epochs: int = 1
    minibatches: int = 1
    minibatch_size: int | None = None
    interruptible = False

    def due(self, trainer: Trainer) -> int:
        """Minibatches left in this epoch; none if the hooks have left no frame to learn from."""
        frames, minibatches = trainer.rollout_frames, self.minibatches
        if self.minibatch_size is not None:
            minibatches = math.ceil(frames / self.minibatch_size)
        return minibatches - trainer.updates_in_epoch if frames else 0


@dataclass
class UpdateRatio:
    """Off-policy: ``utd_ratio`` updates for every frame after the warm-up.

    A function of the counters alone, so that a resumed run pays exactly what is owed. One that is
    resumed with other numbers owes by them from there on, nothing for the frames before.
    """

    utd_ratio: float = 1.0
    init_random_frames: int = 0
    base_frames: int = field(default=0, init=False)
    base_updates: int = field(default=0, init=False)
    num_epochs = 1
    interruptible = True

    def due(self, trainer: Trainer) -> int:
        """``floor(utd_ratio * max(0, frames - init_random_frames)) - updates``, in a run that has
        always had these numbers.
        """
        frames = max(0, trainer.frames - max(self.base_frames, self.init_random_frames))
        return self.base_updates + math.floor(self.utd_ratio * frames) - trainer.updates

    def state_dict(self) -> dict[str, Any]:
        """The numbers, and from which counters on they are owed by."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any], frames: int, updates: int) -> None:
        """Restore :meth:`state_dict`, saved at these counters."""
        self.base_frames, self.base_updates = state["base_frames"], state["base_updates"]
        if state != self.state_dict():
            self.base_frames, self.base_updates = frames, updates

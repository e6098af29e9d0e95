"""Prioritized replay: frames that surprised the critics are drawn more often."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDictBase
from torchrl.data import ReplayBuffer
from torchrl.data.replay_buffers.samplers import PrioritizedSampler

from trainers.hooks.replay import Replay
from trainers.replay.pictures import Pictures
from trainers.trainer import Trainer


class PrioritizedReplay(Replay):
    """Draws frames by their priorities (Schaul et al. 2016), and weights them for it.

    Register :meth:`update_priority` at ``post_optim`` beside the others. Batches get an ``index``,
    and the importance weight ``(P(i) / min P) ** -beta`` of every frame, which TorchRL's losses
    apply.

    Args:
        buffer: a TorchRL replay buffer with a ``PrioritizedSampler``.
        batch_size: frames of a batch; default: the buffer's own.
        device: where batches go; default: where the storage is.
        time_major: as for :class:`~trainers.hooks.replay.Replay`.
        pictures: likewise.
        beta: exponent of the weights at first.
        beta_end: where it has linearly come to at the end of the run's horizon.
        weight_key: where the loss looks for the weights.
        error_key: where the loss writes the size of its error, from which the priorities come.

    Raises:
        ValueError: the buffer's sampler is of another kind.
    """

    def __init__(
        self,
        buffer: ReplayBuffer,
        batch_size: int | None = None,
        device: Any = None,
        time_major: bool = False,
        pictures: Pictures | None = None,
        *,
        beta: float = 0.4,
        beta_end: float = 1.0,
        weight_key: Any = "priority_weight",
        error_key: Any = "td_error",
    ) -> None:
        super().__init__(buffer, batch_size, device, time_major, pictures)
        if not isinstance(buffer.sampler, PrioritizedSampler):
            raise ValueError(
                "prioritized replay needs a buffer with a PrioritizedSampler, "
                f"got one with a {type(buffer.sampler).__name__}"
            )
        self._sampler = buffer.sampler
        self.beta, self.beta_end = beta, beta_end
        self.weight_key = weight_key
        self.error_key = error_key

    def sample(self, trainer: Trainer, batch: TensorDictBase) -> TensorDictBase:
        """A batch ``[batch_size]`` with ``index`` and weights."""
        self._sampler.beta = self.beta + (self.beta_end - self.beta) * trainer.progress
        sampled, info = self.buffer.sample(self.batch_size, return_info=True)
        sampled.set("index", info["index"])
        sampled = self.with_pictures(sampled, info["index"])
        sampled.set(self.weight_key, info["priority_weight"].float())
        return sampled if self.device is None else sampled.to(self.device)

    def update_priority(
        self, trainer: Trainer, batch: TensorDictBase, losses: TensorDictBase
    ) -> None:
        """The frames of the batch get the errors that the loss has written into it.

        Raises:
            KeyError: the loss has written none.
        """
        self.buffer.update_priority(batch["index"], batch[self.error_key])

    def sampler_state(self) -> dict[str, Any]:
        """The priorities of the stored frames, the oldest first.

        The sampler's trees are a function of them.
        """
        slots = self.nth_oldest(torch.arange(len(self.buffer)))
        return {
            "alpha": self._sampler.alpha,
            "priorities": torch.as_tensor(self._sampler._sum_tree[slots]),
            "highest": list(self._sampler._max_priority),
        }

    def load_sampler_state(self, state: dict[str, Any]) -> str | None:
        """Restore the priorities; the exponents stay as they are configured now.

        Frames that had none get that of a new one.
        """
        sampler, alpha, filled = self._sampler, self._sampler.alpha, len(self.buffer)
        slots = self.nth_oldest(torch.arange(filled))
        if "priorities" not in state:
            sampler.mark_update(slots)
            return "frames had no priorities: they begin with that of a new one" if filled else None
        sampler._alpha = state["alpha"]
        if filled:
            priorities = state["priorities"][-filled:]
            sampler._sum_tree[slots] = priorities
            sampler._min_tree[slots] = priorities
        sampler._max_priority = tuple(state["highest"])
        sampler.alpha = alpha
        return None

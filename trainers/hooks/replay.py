"""The replay buffer: filled after collection, sampled for every update."""

from __future__ import annotations

from typing import Any

from tensordict import TensorDict, TensorDictBase
from torchrl.data import ReplayBuffer

from trainers.trainer import Trainer


class Replay:
    """Stores every collected frame once, and samples batches of them.

    Register :meth:`extend` at ``post_collect`` (warm-up frames are stored too) and :meth:`sample`
    at ``process_optim_batch``.

    Args:
        buffer: any TorchRL replay buffer with a tensor storage.
        batch_size: frames of a batch; default: the buffer's own.
        device: where batches go; default: where the storage is.
    """

    name = "replay"

    def __init__(
        self, buffer: ReplayBuffer, batch_size: int | None = None, device: Any = None
    ) -> None:
        self.buffer = buffer
        self.batch_size = batch_size
        self.device = device

    def extend(self, trainer: Trainer, rollout: TensorDictBase) -> None:
        """Store the frames of ``rollout``, whatever its batch dimensions.

        ``("next", "success")`` is for the log: nothing learns from it, and a storage takes the same
        entries every time, while it may turn up in the middle of a run.
        """
        if rollout.get(("next", "success"), None) is not None:
            rollout = rollout.exclude(("next", "success"))
        self.buffer.extend(rollout.reshape(-1))

    def sample(self, trainer: Trainer, batch: TensorDictBase) -> TensorDictBase:
        """A batch ``[batch_size]``; the incoming one (the rollout) is dropped."""
        sampled = self.buffer.sample(self.batch_size)
        return sampled if self.device is None else sampled.to(self.device)

    def state_dict(self) -> dict[str, Any]:
        """The stored frames in storage order, and where the next one goes."""
        # The storage itself: the buffer's transforms have been applied to what is in it.
        storage, filled = self.buffer.storage, len(self.buffer)
        return {
            "frames": dict(storage[:filled].flatten_keys("/").items()) if filled else {},
            "writer": self.buffer.writer.state_dict(),
            "sampler": self.buffer.sampler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Fill the buffer with the stored frames."""
        self.buffer.empty()
        if frames := state["frames"]:
            filled = len(next(iter(frames.values())))
            stored = TensorDict(frames, [filled]).unflatten_keys("/")
            self.buffer.storage.set(slice(0, filled), stored)  # type: ignore  # a slice will do
        self.buffer.writer.load_state_dict(state["writer"])
        self.buffer.sampler.load_state_dict(state["sampler"])

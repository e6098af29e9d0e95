"""A replay buffer of TorchRL's that is read and written without its way there."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDictBase
from torchrl.data import ReplayBuffer
from torchrl.data.replay_buffers.samplers import Sampler

from trainers.replay.rows import RowStorage
from trainers.tensordicts import leaves_of


class FastReplayBuffer(ReplayBuffer):
    """TorchRL's ``ReplayBuffer`` of transitions, written in turn.

    What it stores, and in which order, which indices it draws and what a batch looks like are
    TorchRL's; to get there takes TorchRL five times as long as to copy the data, for every frame.
    On a GPU uniform indices are drawn there, from as many frames as the device knows of. Once it is
    given transforms it goes TorchRL's way.

    Args:
        storage: in memory, on a device or on disk.
        batch_size: frames of a batch.
        sampler: TorchRL's; default: uniform.
    """

    def __init__(
        self, *, storage: RowStorage, batch_size: int, sampler: Sampler | None = None
    ) -> None:
        super().__init__(storage=storage, sampler=sampler, batch_size=batch_size)
        device = torch.device(storage.device or "cpu")
        self.on_host = device.type == "cpu"
        self._uniform = sampler is None
        self._filled = torch.zeros((), dtype=torch.float64, device=device)
        self._known_filled = 0
        self._transforms = self._transform.transforms  # to look there takes far longer than here

    @property
    def drawn_on_device(self) -> bool:
        """Whether the host has no part in a batch."""
        return self._uniform and not (self.on_host or self._transforms)

    def store(self, rollout: TensorDictBase) -> None:
        """Write all frames of ``rollout``, whatever its batch dimensions."""
        storage: Any = self._storage
        writer: Any = self._writer
        begin, number = writer._cursor, rollout.numel()
        end = begin + number
        allocates_or_wraps_around = not storage.initialized or end > storage.max_size
        if allocates_or_wraps_around or self._transforms:
            self.extend(rollout.reshape(-1))
            self._tell_filled()
            return
        entries = dict(leaves_of(rollout))
        for key, place in storage.places.items():
            values, slots = entries[key], place[begin:end]
            slots[:] = (values.numpy(force=True) if self.on_host else values).reshape(slots.shape)
        writer._cursor = end % storage.max_size
        writer._write_count += number
        storage._len = min(len(storage) + number, storage.max_size)
        if not self._uniform:
            index = torch.arange(begin, end)
            self.mark_update(index)
            self._sampler.extend(index)
        self._tell_filled()

    def sample(self, batch_size: int | None = None, return_info: bool = False) -> Any:
        """A batch ``[batch_size]``; with ``return_info`` its ``index``, too.

        Raises:
            RuntimeError: there are no frames.
        """
        if self._transforms:
            return super().sample(batch_size, return_info)
        storage: Any = self._storage
        if not len(storage):
            raise RuntimeError("cannot sample from an empty replay buffer")
        number = batch_size or self._batch_size or 0
        info: dict[str, Any] = {}
        if not self._uniform:
            index, info = self._sampler.sample(storage, number)
        elif self.on_host:
            index = torch.randint(len(storage), (number,), generator=storage._rng)
        else:  # of as many frames as there are when a graph is replayed, not when it is captured
            self._tell_filled()
            share = torch.rand(number, dtype=torch.float64, device=self._filled.device)
            index = (share * self._filled).long()
        data = storage.take(index)
        return (data, info | {"index": index}) if return_info else data

    def _tell_filled(self) -> None:
        if not self.on_host and self._known_filled != len(self):
            self._known_filled = len(self)
            self._filled.fill_(self._known_filled)

"""A replay buffer of TorchRL's that is read and written without its way there."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import ReplayBuffer

from trainers.arrays import Array, as_array
from trainers.tensordicts import Key, leaves_of, tensordict_of


class UniformReplayBuffer(ReplayBuffer):
    """TorchRL's ``ReplayBuffer`` of transitions, written in turn, sampled uniformly.

    What it stores, and in which order, which indices it draws and what a batch looks like are
    TorchRL's; to get there takes TorchRL five times as long as to copy the data, for every frame.
    On a GPU indices are drawn there, from as many frames as the device knows of. Once it is given
    transforms it goes TorchRL's way.

    Args:
        storage: a tensor storage, in memory, on a device or memory-mapped.
        batch_size: frames of a batch.
    """

    def __init__(self, *, storage: Any, batch_size: int) -> None:
        super().__init__(storage=storage, batch_size=batch_size)
        device = getattr(storage, "device", None)
        device = device if isinstance(device, torch.device) else torch.device("cpu")
        self.on_host = device.type == "cpu"
        self._filled = torch.zeros((), dtype=torch.float64, device=device)
        self._known_filled = 0
        self._transforms = self._transform.transforms  # to look there takes far longer than here
        self._stored: Any = None
        self._leaves: list[tuple[Key, Tensor]] = []
        self._arrays: dict[Key, Array] = {}  # of the same memory

    @property
    def drawn_on_device(self) -> bool:
        """Whether the host has no part in a batch."""
        return not (self.on_host or self._transforms)

    def store(self, rollout: TensorDictBase) -> None:
        """Write all frames of ``rollout``, whatever its batch dimensions."""
        storage: Any = self._storage
        writer: Any = self._writer
        begin, number = writer._cursor, rollout.numel()
        end = begin + number
        allocates_or_wraps_around = not storage.initialized or end > storage.max_size
        if allocates_or_wraps_around or self._transforms:
            self.extend(rollout.reshape(-1))
            return
        entries = dict(leaves_of(rollout))
        for key, memory in self._memory:
            # Numpy writes a frame in a tenth of the time.
            values = as_array(entries[key].cpu()) if self.on_host else entries[key]
            place = self._arrays[key] if self.on_host else memory
            place[begin:end] = values.reshape(number, *memory.shape[1:])
        writer._cursor = end % storage.max_size
        writer._write_count += number
        storage._len = min(len(storage) + number, storage.max_size)
        self._tell_filled()

    def sample(self, batch_size: int | None = None, return_info: bool = False) -> Any:
        """A batch ``[batch_size]``; with ``return_info`` its ``index``, too."""
        if self._transforms:
            return super().sample(batch_size, return_info)
        storage: Any = self._storage
        number = batch_size or self._batch_size or 0
        if self.on_host:
            index = torch.randint(len(storage), (number,), generator=storage._rng)
        else:  # of as many frames as there are when a graph is replayed, not when it is captured
            self._tell_filled()
            share = torch.rand(number, dtype=torch.float64, device=self._filled.device)
            index = (share * self._filled).long()
        batch: dict[str, Any] = {}
        for key, memory in self._memory:
            part = batch
            for name in key[:-1]:
                part = part.setdefault(name, {})
            part[key[-1]] = memory.index_select(0, index)
        data = tensordict_of(batch, [len(index)], storage.device)
        return (data, {"index": index}) if return_info else data

    def _tell_filled(self) -> None:
        if not self.on_host and self._known_filled != len(self):
            self._known_filled = len(self)
            self._filled.fill_(self._known_filled)

    @property
    def _memory(self) -> list[tuple[Key, Tensor]]:
        """Every entry's, as plain tensors."""
        stored: Any = self._storage._storage  # type: ignore[attr-defined]  # a tensor storage's
        if stored is not self._stored:  # allocated, or loaded
            self._stored = stored
            self._leaves = [
                (key if isinstance(key, tuple) else (key,), value.as_subclass(torch.Tensor))
                for key, value in stored.items(True, True)
            ]
            self._arrays = {key: as_array(memory) for key, memory in self._leaves}
        return self._leaves

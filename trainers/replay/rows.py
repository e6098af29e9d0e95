"""A replay buffer's storage in which all of a frame lies side by side."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import LazyTensorStorage

from trainers.arrays import Array, as_array
from trainers.tensordicts import Key, leaves_of, tensordict_of

Empty = Callable[..., Tensor]


class RowStorage(LazyTensorStorage):
    """TorchRL's ``LazyTensorStorage`` of frames, each of them in one piece of memory.

    Of a million frames one drawn at random is in no cache, wherever it lies: here it is waited for
    once, and not once for each of its entries.

    Args:
        max_size: frames that there is room for.
        device: where.
        empty: makes the memory, called like ``torch.empty``.

    Attributes:
        places: every entry's memory ``[max_size, ...]``, once there are frames; on the host as
            numpy's.
    """

    places: dict[Key, Array]

    def __init__(
        self, max_size: int, *, device: torch.device | str = "cpu", empty: Empty = torch.empty
    ) -> None:
        super().__init__(max_size, device=device)
        self._make_memory = empty

    def _init(self, data: TensorDictBase) -> None:
        self._layout = _Layout(data)
        shape = [self.max_size, self._layout.width]
        self._rows = self._make_memory(shape, dtype=torch.uint8, device=self.device)
        self._look_into_rows()
        self.initialized = True

    def _look_into_rows(self) -> None:
        self._storage = self._layout.entries(self._rows)
        # Numpy writes a frame in a tenth of the time.
        self.places = {key: as_array(entry) for key, entry in leaves_of(self._storage)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self.initialized:  # a copy's entries have been copied one by one
            self._look_into_rows()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """TorchRL's, whose own tensors would take the place of the rows."""
        loaded = LazyTensorStorage(self.max_size)
        loaded.load_state_dict(state_dict)
        self._empty()
        if len(loaded):
            self.set(slice(0, len(loaded)), loaded[:])

    def take(self, index: Tensor) -> TensorDict:
        """Copies of the frames at ``index`` ``[B]``, which counts from the first slot."""
        rows = self._rows
        return self._layout.entries(rows.index_select(0, index.to(rows.device)))


class _Group(NamedTuple):
    """Entries of one kind, side by side in the bytes ``[begin, end)`` of every row."""

    dtype: torch.dtype
    begin: int
    end: int
    sizes: list[int]
    entries: list[tuple[Key, torch.Size]]


class _Layout:
    """Where in a row what is.

    Args:
        frame: one like all that come, without batch dimensions.

    Attributes:
        width: of a row in bytes.
    """

    def __init__(self, frame: TensorDictBase) -> None:
        leaves = list(leaves_of(frame))
        # The widest first: so everything lies at a multiple of its own width.
        kinds = dict.fromkeys(leaf.dtype for _, leaf in leaves)
        by_width = sorted(kinds, key=lambda kind: kind.itemsize, reverse=True)
        self._groups: list[_Group] = []
        end = 0
        for dtype in by_width:
            entries = [(key, leaf.shape) for key, leaf in leaves if leaf.dtype == dtype]
            sizes = [shape.numel() for _, shape in entries]
            begin, end = end, end + dtype.itemsize * sum(sizes)
            self._groups.append(_Group(dtype, begin, end, sizes, entries))
        widest = max((dtype.itemsize for dtype in by_width), default=1)
        self.width = widest * math.ceil(end / widest)

    def entries(self, rows: Tensor) -> TensorDict:
        """Those of ``rows`` ``[B, width]``, nothing copied."""
        entries: dict[str, Any] = {}
        for dtype, begin, end, sizes, group in self._groups:
            columns = rows[:, begin:end].view(dtype).split_with_sizes(sizes, 1)
            for (key, shape), column in zip(group, columns, strict=True):
                part = entries
                for name in key[:-1]:
                    part = part.setdefault(name, {})
                part[key[-1]] = column if len(shape) == 1 else column.view(len(rows), *shape)
        return tensordict_of(entries, rows.shape[:1], rows.device)


def on_disk(shape: Sequence[int], dtype: torch.dtype, device: Any = None) -> Tensor:
    """Like ``torch.empty``, in a file that has no name and goes with the process."""
    with tempfile.NamedTemporaryFile(prefix="replay-") as file:
        flat = torch.from_file(file.name, shared=True, size=math.prod(shape), dtype=dtype)
    return flat.view(*shape)

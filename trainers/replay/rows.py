"""A replay buffer's storage in which all of a frame lies side by side."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import LazyTensorStorage

from trainers.arrays import Array, as_array, on_host
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
        return self._layout.entries_of_batch(rows.index_select(0, index.to(rows.device)))


class _Place(NamedTuple):
    """Where in every row an entry is: in the bytes ``[begin, end)``."""

    key: Key
    dtype: torch.dtype
    shape: torch.Size
    begin: int
    end: int


class _Layout:
    """Where in a row what is.

    Args:
        frame: one like all that come, without batch dimensions.

    Attributes:
        width: of a row in bytes.
    """

    def __init__(self, frame: TensorDictBase) -> None:
        # The widest first: so everything lies at a multiple of its own width.
        leaves = sorted(leaves_of(frame), key=lambda leaf: -leaf[1].itemsize)
        self._places: list[_Place] = []
        self._names = [str(key) for key, _ in leaves]
        end = 0
        for key, leaf in leaves:
            begin, end = end, end + leaf.numel() * leaf.itemsize
            self._places.append(_Place(key, leaf.dtype, leaf.shape, begin, end))
        widest = max((leaf.itemsize for _, leaf in leaves), default=1)
        self.width = widest * math.ceil(end / widest)

    def entries(self, rows: Tensor) -> TensorDict:
        """Those of ``rows`` ``[B, width]``, nothing copied: views of one tensor."""
        columns = (
            rows[:, place.begin : place.end].view(place.dtype).view(len(rows), *place.shape)
            for place in self._places
        )
        return self._nested(columns, rows)

    def entries_of_batch(self, rows: Tensor) -> TensorDict:
        """:meth:`entries`, on the host by numpy, which takes less time to make them."""
        if not on_host(rows):
            return self.entries(rows)
        records = rows.numpy().view(self._record)[:, 0]
        return self._nested((torch.from_numpy(records[name]) for name in self._names), rows)

    @cached_property
    def _record(self) -> np.dtype:
        """A row as numpy sees it."""
        types = [torch.empty(0, dtype=place.dtype).numpy().dtype for place in self._places]
        fields: Any = {
            "names": self._names,
            "formats": [(t, place.shape) for t, place in zip(types, self._places, strict=True)],
            "offsets": [place.begin for place in self._places],
            "itemsize": self.width,
        }
        return np.dtype(fields)

    def _nested(self, values: Iterable[Tensor], rows: Tensor) -> TensorDict:
        entries: dict[str, Any] = {}
        for place, value in zip(self._places, values, strict=True):
            part = entries
            for name in place.key[:-1]:
                part = part.setdefault(name, {})
            part[place.key[-1]] = value
        return tensordict_of(entries, rows.shape[:1], rows.device)


def on_disk(shape: Sequence[int], dtype: torch.dtype, device: Any = None) -> Tensor:
    """Like ``torch.empty``, in a file that has no name and goes with the process."""
    with tempfile.NamedTemporaryFile(prefix="replay-") as file:
        flat = torch.from_file(file.name, shared=True, size=math.prod(shape), dtype=dtype)
    return flat.view(*shape)

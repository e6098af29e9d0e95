"""What grows at its end and never changes before it, in pieces that are written once.

A replay buffer of a million frames takes hundreds of megabytes; between two checkpoints a few of
them are new.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

SEGMENT_ROWS = 4096


@dataclass(frozen=True)
class Rows:
    """Rows ``[first, end)`` of tables that are appended to, and forget their oldest rows.

    A row keeps its number for as long as it is there. In a checkpoint
    (:mod:`trainers.saving.checkpoint`) they are in a file for each piece, and one that has not
    changed since the checkpoint before is not written again.

    Args:
        first: number of the oldest row.
        end: number of the next row to come.
        read: the rows ``[begin, end)``, one of :meth:`pieces`, of every table by its name.
    """

    first: int
    end: int
    read: Callable[[int, int], Mapping[str, Tensor]]

    def __len__(self) -> int:
        return self.end - self.first

    def pieces(self) -> Iterator[tuple[int, int]]:
        """Where each of them begins and ends: at multiples of ``SEGMENT_ROWS``, in order."""
        begin = self.first
        while begin < self.end:
            end = min(self.end, (begin // SEGMENT_ROWS + 1) * SEGMENT_ROWS)
            yield begin, end
            begin = end

    def tables(self) -> dict[str, Tensor]:
        """All rows, the oldest first."""
        pieces = [self.read(begin, end) for begin, end in self.pieces()]
        names = pieces[0] if pieces else ()
        return {name: torch.cat([piece[name] for piece in pieces]) for name in names}

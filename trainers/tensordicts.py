"""TensorDicts made without a check, where the check takes longer than what they are made for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

Key = tuple[str, ...]


def leaves_of(data: TensorDictBase, above: Key = ()) -> Iterator[tuple[Key, Tensor]]:
    """Every tensor in ``data`` with its whole key, in a fifth of the time of tensordict's way."""
    for name, value in data.items():
        if isinstance(value, TensorDictBase):
            yield from leaves_of(value, (*above, name))
        else:
            yield (*above, name), value


def tensordict_of(
    entries: Mapping[str, Any], batch_size: Sequence[int] = (), device: Any = None
) -> TensorDict:
    """A TensorDict of ``entries``, tensors or such mappings themselves, taken as they are.

    Every entry must be a tensor on ``device`` (None: any), its shape beginning with ``batch_size``.
    """
    # TorchRL's and tensordict's own way for what they know to be right: a fifth of the time.
    return TensorDict._new_unsafe(dict(entries), torch.Size(batch_size), device)

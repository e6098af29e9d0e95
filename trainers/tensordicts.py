"""TensorDicts made without a check, where the check takes longer than what they are made for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tensordict import TensorDict


def tensordict_of(
    entries: Mapping[str, Any], batch_size: Sequence[int] = (), device: Any = None
) -> TensorDict:
    """A TensorDict of ``entries``, tensors or such mappings themselves, taken as they are.

    Every entry must be a tensor on ``device`` (None: any), its shape beginning with ``batch_size``.
    """
    # TorchRL's and tensordict's own way for what they know to be right: a fifth of the time.
    return TensorDict._new_unsafe(dict(entries), torch.Size(batch_size), device)

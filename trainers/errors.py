"""Errors that more than one part of the trainer raises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class NonFiniteError(RuntimeError):
    """A NaN or an infinity was met; it was kept away from parameters and from the replay buffer.

    Attributes:
        evidence: what it was met in, for study: tensors, arrays and plain data, nested.
    """

    def __init__(self, message: str, evidence: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.evidence = dict(evidence or {})

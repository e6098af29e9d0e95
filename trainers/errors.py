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


def innermost_reason(error: BaseException, limit: int = 300) -> str:
    """Why, in a line: tensordict wraps the reason in a picture of all networks."""
    from trainers.saving.checkpoint import CheckpointError

    while error.__cause__ is not None and not isinstance(error, CheckpointError):
        error = error.__cause__
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[:limit] + "..."

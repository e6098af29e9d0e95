"""Errors that more than one part of the trainer raises."""

from __future__ import annotations


class NonFiniteError(RuntimeError):
    """A NaN or an infinity was met; it was kept away from parameters and from the replay buffer."""

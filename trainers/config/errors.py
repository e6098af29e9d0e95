"""The one exception for wrong configuration or input: the scripts answer it with exit code 2."""

from __future__ import annotations

import json
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

_LONG = 100  # characters


class ConfigError(ValueError):
    """What was asked for cannot be done: which key, what was given, what is allowed instead."""

    def __init__(self, key: str, given: Any, allowed: str, hint: str | None = None) -> None:
        self.key, self.given, self.allowed, self.hint = key, given, allowed, hint
        super().__init__(key, given, allowed, hint)  # all of them, so that it survives a pickle

    def __str__(self) -> str:
        message = f"{self.key}: got {show(self.given)}"
        if self.hint and len(self.allowed) > _LONG:  # behind a list of names nobody would see it
            return f"{message}; {self.hint} (expected {self.allowed})"
        message += f", expected {self.allowed}"
        return f"{message}; {self.hint}" if self.hint else message


def show(value: Any, limit: int = 200) -> str:
    """`value` the way a user would have typed it, cut to `limit` characters."""
    return cut(json.dumps(value, ensure_ascii=False, default=repr), limit)


def cut(text: str, limit: int = 200) -> str:
    """The first `limit` characters."""
    return text if len(text) <= limit else text[:limit] + "..."


def did_you_mean(given: Any, choices: Iterable[str]) -> str | None:
    """A hint naming the choice nearest to `given`; None if nothing is near."""
    near = nearest(given, choices)
    return f"did you mean {near}?" if near else None


def nearest(given: Any, choices: Iterable[str]) -> str | None:
    """The choice that `given` is a misspelling of; None if nothing is near."""
    by_lower = {choice.lower(): choice for choice in choices}
    near = get_close_matches(str(given).lower(), by_lower, n=1)
    return by_lower[near[0]] if near else None

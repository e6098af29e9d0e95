"""Whether something can be written where it is asked for, before any work is done for it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from trainers.config.errors import ConfigError


def check_writable(key: str, directory: Path, hint: str | None = None) -> None:
    """Raise a `ConfigError`, which names `key`, unless files can be written there; makes it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        allowed = "a directory that can be written to"
        reason = f"{error.strerror}: {hint}" if hint else error.strerror
        raise ConfigError(key, str(directory), allowed, reason) from error

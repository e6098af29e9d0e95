"""What has to be on the disk, whatever becomes of the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class WriteError(OSError):
    """A file could not be written."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Let every `OSError` inside be a `WriteError` that names ``path``: a full disk names none."""
    try:
        yield
    except OSError as error:
        raise WriteError(error.errno, error.strerror or str(error), str(path)) from error


def write_whole(path: Path, content: bytes) -> Path:
    """Write a file so that whoever opens it sees the old one or the new one, whole.

    Raises:
        WriteError: it cannot be written; nothing of it stays.
    """
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    with writing(path):
        try:
            staged.write_bytes(content)
            staged.replace(path)
        finally:
            staged.unlink(missing_ok=True)
    return path


def sync(path: Path) -> None:
    """Wait until the content of a file, or the names in a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

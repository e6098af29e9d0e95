"""A file that a run adds to, line by line, for days."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainers.disk import sync

log = logging.getLogger("trainers")


class GrowingFile:
    """Takes records whole or not at all; the first failure is said, none is raised.

    Attributes:
        path: where it is; its directory has to exist.
        end: where its last whole record ends; the next one goes there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.end = 0
        self._warned = False

    def append(self, record: bytes) -> None:
        """Add a record behind the last whole one."""
        # Opened for each record: a disk that is full now may have room for the next one.
        with self.warn_once():
            with self.path.open("ab") as file:
                self.end = min(self.end, file.tell())
                file.truncate(self.end)  # the half record of a write that failed
                file.write(record)
            self.end += len(record)

    def cut(self) -> None:
        """Drop what stands behind the last whole record."""
        if self.path.exists():
            self.append(b"")
        else:
            self.end = 0

    def sync(self) -> None:
        """Wait until the disk has all of it, whatever becomes of the machine."""
        with self.warn_once():
            if self.path.exists():
                sync(self.path)
                sync(self.path.parent)

    @contextmanager
    def warn_once(self) -> Iterator[None]:
        """Whatever the system refuses inside is logged, if it is the first time."""
        try:
            yield
        except OSError as error:
            if not self._warned:
                log.warning("cannot write %s, training goes on without it: %s", self.path, error)
            self._warned = True

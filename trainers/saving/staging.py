"""Directories that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trainers.config import ConfigError
from trainers.disk import writing


@contextmanager
def staged(out: Path, replaceable: Callable[[Path], bool] = lambda out: False) -> Iterator[Path]:
    """A directory to write to that becomes ``out`` at the end; if anything fails, nothing stays.

    Args:
        out: where nothing is yet, or what is replaceable: it goes once the new one is there.
        replaceable: says so of what is there.

    Raises:
        ConfigError: ``out`` exists and stays, or cannot be made.
        WriteError: what was written cannot be moved there.
    """
    out = Path(os.path.abspath(out))  # it has a name then, and is no other one behind a link
    if os.path.lexists(out) and not replaceable(out):
        raise ConfigError("out", str(out), "a path where nothing is yet")
    staging, earlier = (
        out.with_name(f".{out.name}.{os.getpid()}.{kind}") for kind in ("partial", "earlier")
    )
    missing = [path for path in out.parents if not path.exists()]
    try:
        try:
            staging.mkdir(parents=True)
        except OSError as error:
            allowed = "a directory that can be made"
            raise ConfigError("out", str(out), allowed, error.strerror) from error
        yield staging
        with writing(out):
            if os.path.lexists(out) and replaceable(out):
                out.rename(earlier)
            staging.rename(out)  # fails if there is anything else by now
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        if earlier.exists() and not out.exists():
            earlier.rename(out)
        for path in missing:
            with suppress(OSError):  # never made, or others have put something there
                path.rmdir()
        raise
    finally:
        shutil.rmtree(earlier, ignore_errors=True)

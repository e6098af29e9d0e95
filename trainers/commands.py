"""What all commands have in common: how a user is told of the next one, how they end in a pipe."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_FAILED = 1


@contextmanager
def readers_may_leave() -> Iterator[None]:
    """Ends the process, without a word, once nobody reads what it prints: `--help | head`.

    Raises:
        SystemExit: nobody does.
    """
    try:
        try:
            yield
        except SystemExit:
            print(end="", flush=True)  # now: a flush at the end of the process cannot be caught
            raise
        print(end="", flush=True)
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # what is still to be flushed goes there
                os.dup2(nowhere, stream.fileno())
        sys.exit(_FAILED)


def command(script: str, *arguments: str, plugins: Sequence[str] = ()) -> str:
    """A line for a shell, to be typed where this process was started.

    Args:
        script: the name of one that lies beside the one that is running.
        arguments: of it.
        plugins: those of the run, which have to be named again.
    """
    named = [f"plugins=[{','.join(plugins)}]"] if plugins else []
    return shlex.join([_python(), str(Path(sys.argv[0]).parent / script), *arguments, *named])


def as_value(path: Path) -> str:
    """A path as Hydra reads it for the value of a key: in quotes, unless it is a plain word."""
    plain = re.fullmatch(r"[A-Za-z_./][\w./+-]*", str(path), re.ASCII)
    return str(path) if plain else "'" + str(path).replace("'", r"\'") + "'"


def _python() -> str:
    """This interpreter as it is called here: ``python``, if that is the one, else by its path."""
    here, found = Path(sys.executable), shutil.which("python")
    # Both in one directory: a virtual environment's is a link to the one outside of it.
    if found and Path(found).absolute().parent == here.parent and os.path.samefile(found, here):
        return "python"
    return str(here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here)

"""Commands that a user is told to type next."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path


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

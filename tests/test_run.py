"""A run is set up before anything is built."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from support.algorithms import tiny_sac

from trainers import build
from trainers.config import ConfigError
from trainers.run import run


class ToBeBuilt(Exception):
    """As far as the test goes."""


@pytest.mark.parametrize(
    ("given", "cores", "expected"),
    [(None, 1, 1), (None, 3, 3), (None, 4, 4), (None, 64, 4), (6, 2, 6), (1, 64, 1)],
)
def test_threads(
    given: int | None, cores: int, expected: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of the cores that this process may use at most four, or as many as are asked for."""
    asked: list[int] = []

    def stop(config: object) -> None:
        raise ToBeBuilt

    monkeypatch.setattr(os, "environ", dict(os.environ))  # a run changes it
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr(build, "build", stop)
    with pytest.raises(ToBeBuilt):
        run(tiny_sac(threads=given), tmp_path / "run", None)
    assert asked == [expected]


def test_denormal_numbers_are_zero_in_all_threads() -> None:
    """In a process of its own: threads that are there already would not know of it."""
    multiply = (
        "import torch; from support.algorithms import tiny_sac; from trainers.run import "
        "set_up_torch; set_up_torch(tiny_sac(threads=2)); "
        "print(torch.get_num_threads(), int((0.1 * torch.full((1 << 20,), 5e-38)).count_nonzero()))"
    )
    path = os.pathsep.join(["tests", *filter(None, [os.environ.get("PYTHONPATH")])])
    said = subprocess.run(
        [sys.executable, "-c", multiply],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "2 0\n"


def test_a_directory_that_cannot_be_written_to_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A run to go on with is there already, perhaps on a disk that can only be read."""

    def refuse(**where: Any) -> None:
        assert where == {"dir": tmp_path}
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(ConfigError, match=r"run_dir: .*can be written to.*Read-only file system"):
        run(tiny_sac(), tmp_path, tmp_path)
    assert list(tmp_path.iterdir()) == []

"""A run is set up before anything is built."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from support.algorithms import tiny_sac

from trainers import build
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

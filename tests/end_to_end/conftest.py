"""Every run starts in an empty directory."""

from __future__ import annotations

from pathlib import Path

import my_plugin
import pytest
from running import TINY, train


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    my_plugin.CALLS.clear()
    my_plugin.TRAINERS.clear()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that went straight through to its end; not to be written to."""
    run_dir = tmp_path_factory.mktemp("straight") / "run"
    assert train(*TINY, f"run_dir={run_dir}") == 0
    return run_dir

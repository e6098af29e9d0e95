"""Every run starts in an empty directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import my_plugin
import pytest
from running import TINY, train

Straight = Callable[..., Path]


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    my_plugin.CALLS.clear()
    my_plugin.TRAINERS.clear()


@pytest.fixture(scope="session")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Straight:
    """Runs that went straight through to their ends, once for each command line; not to be
    written to."""
    made: dict[tuple[str, ...], Path] = {}

    def run(*arguments: str) -> Path:
        if arguments not in made:
            run_dir = tmp_path_factory.mktemp("straight") / "run"
            assert train(*arguments, f"run_dir={run_dir}") == 0
            made[arguments] = run_dir
        return made[arguments]

    return run


@pytest.fixture(scope="session")
def finished(straight: Straight) -> Path:
    """Such a run of SAC."""
    return straight(*TINY)

"""What all tests share."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator

import pytest

# One thread each, in subprocesses too: the tests are many small runs. Before torch is imported.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _no_accounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home without keys, so that no test depends on, or writes to, anybody's account."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        patch.delenv("NETRC", raising=False)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(autouse=True)
def _no_handlers() -> Iterator[None]:
    """Drops those that Hydra leaves on the root logger: their stream ends with the test."""
    yield
    root = logging.getLogger()
    for handler in [each for each in root.handlers if type(each) is logging.StreamHandler]:
        root.removeHandler(handler)


@pytest.fixture(autouse=True)
def _no_service() -> Iterator[None]:
    """Ends the service of Weights & Biases: a test that forks would share it with its copy."""
    yield
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()

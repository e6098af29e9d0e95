"""What a run says."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from trainers.run_log import logging_to

logger = logging.getLogger("trainers")


def test_the_file_keeps_more_than_the_terminal_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with logging_to(tmp_path / "train.log"):
        assert not list(tmp_path.iterdir())
        logger.debug("in detail")
        logger.info("in short")
    assert capsys.readouterr().err == "in short\n"
    kept = (tmp_path / "train.log").read_text()
    assert [line.split(" ", 2)[2] for line in kept.splitlines()] == [
        "DEBUG in detail",
        "INFO in short",
    ]


def test_a_full_disk_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to(Path("/dev/full")):
        logger.info("one")
        logger.info("two")
    said = capsys.readouterr().err.splitlines()
    assert sorted(said) == [
        "cannot write /dev/full: [Errno 28] No space left on device",
        "one",
        "two",
    ]

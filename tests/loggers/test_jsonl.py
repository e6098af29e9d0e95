"""`metrics.jsonl`: what is written, what a resume drops, and that it cannot stop a run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.disk import watch_syncs
from support.logs import jsonl_lines, warnings

from trainers.config import LoggerConfig
from trainers.loggers import JsonlLogger, make_loggers

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def test_lines_come_back_and_are_there_at_once(path: Path) -> None:
    logger = JsonlLogger(path)
    lines = [{"frames": 1_000, "loss/actor": -0.1}, {"frames": 2_000, "loss/actor": 1e-300}]
    for count, line in enumerate(lines, start=1):
        logger.write(line)
        assert jsonl_lines(path) == lines[:count]


def test_numbers_that_json_lacks_become_null(path: Path) -> None:
    JsonlLogger(path).write({"frames": 1, "a": NAN, "b": INF, "c": -INF, "d": 0.5})
    assert path.read_text() == '{"frames": 1, "a": null, "b": null, "c": null, "d": 0.5}\n'


def test_goes_on_behind_earlier_lines(path: Path) -> None:
    JsonlLogger(path).write({"frames": 1})
    JsonlLogger(path).write({"frames": 2})
    assert jsonl_lines(path) == [{"frames": 1}, {"frames": 2}]


@pytest.mark.parametrize("rest", [b'{"frames": 2, "lo', b"\xff\x00"])
def test_drops_a_last_line_that_was_cut(path: Path, rest: bytes) -> None:
    path.write_bytes(b'{"frames": 1}\n' + rest)
    logger = JsonlLogger(path)
    assert path.read_bytes().endswith(rest)  # it may still prove that the run cannot go on
    logger.start()
    assert jsonl_lines(path) == [{"frames": 1}]
    logger.write({"frames": 2})
    assert jsonl_lines(path) == [{"frames": 1}, {"frames": 2}]


def test_resume_drops_the_lines_after_the_checkpoint(path: Path) -> None:
    killed = JsonlLogger(path)
    killed.write({"frames": 1})
    state = json.loads(json.dumps(killed.state_dict()))
    killed.write({"frames": 2})
    killed.write({"frames": 3})
    before = path.read_bytes()

    resumed = JsonlLogger(path)
    resumed.load_state_dict(state)
    assert path.read_bytes() == before
    assert resumed.restored == ("exact", "")
    resumed.start()
    assert jsonl_lines(path) == [{"frames": 1}]
    resumed.write({"frames": 2})
    assert jsonl_lines(path) == [{"frames": 1}, {"frames": 2}]
    assert resumed.state_dict() == {"bytes": path.stat().st_size}


def test_resume_keeps_and_names_a_file_that_is_too_short(path: Path) -> None:
    path.write_text('{"frames": 1}\n')
    logger = JsonlLogger(path)
    logger.load_state_dict({"bytes": 1_000})
    how, why = logger.restored
    assert how == "statistical"
    assert why == f"some lines of {path} are lost, 14 of 1000 bytes are there"
    logger.start()
    logger.write({"frames": 2})
    assert jsonl_lines(path) == [{"frames": 1}, {"frames": 2}]


def test_what_is_gone_before_the_run_begins_counts_no_more(path: Path) -> None:
    path.write_text('{"frames": 1}\n')
    logger = JsonlLogger(path)
    path.unlink()
    logger.start()
    assert logger.state_dict() == {"bytes": 0}
    assert not path.exists()


def test_an_unwritable_file_is_said_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "missing" / "metrics.jsonl"
    logger = JsonlLogger(path)
    logger.write({"frames": 1})
    logger.write({"frames": 2})
    assert warnings(caplog) == 1
    path.parent.mkdir()
    logger.write({"frames": 3})
    assert jsonl_lines(path) == [{"frames": 3}]


def test_a_write_that_failed_halfway_leaves_no_half_line(tmp_path: Path) -> None:
    """The file may grow to 40 bytes only, as on a full disk, then again without limit."""
    path = tmp_path / "metrics.jsonl"
    script = """
import json, resource, signal, sys
from pathlib import Path
from trainers.loggers import JsonlLogger
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
logger = JsonlLogger(Path(sys.argv[1]))
logger.write({"frames": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (40, resource.RLIM_INFINITY))
logger.write({"frames": 2, "text": 1234567890123456})
assert Path(sys.argv[1]).stat().st_size == 40, "this test wants a half line"
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
logger.write({"frames": 3})
"""
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, timeout=60)
    assert jsonl_lines(path) == [{"frames": 1}, {"frames": 3}]


def test_only_the_jsonl_file_without_any_other(tmp_path: Path) -> None:
    (logger,) = make_loggers(LoggerConfig(), tmp_path, {})
    assert isinstance(logger, JsonlLogger)


def test_what_a_checkpoint_counts_on_is_on_the_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines, and the name of their file."""
    synced, logger = watch_syncs(monkeypatch), JsonlLogger(path)
    assert logger.state_dict() == {"bytes": 0}
    assert synced == []
    logger.write({"frames": 1})
    assert logger.state_dict() == {"bytes": 14}
    assert synced == [path, path.parent]

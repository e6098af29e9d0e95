"""TensorBoard's event files: what is shown, what a resume hides, and that no run is stopped."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.logs import jsonl_lines, points, tensorboard_points, warnings

from trainers.config import LoggerConfig
from trainers.loggers import make_loggers
from trainers.loggers.tensorboard import TensorboardLogger

LINES = [{"frames": 10 * n, "loss/actor": -0.1 * n, "updates": 10 * n - 5} for n in range(1, 5)]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "tensorboard"


def write(logger: TensorboardLogger, *lines: dict[str, Any]) -> dict[str, Any]:
    """The logger's state behind these lines, as it comes out of a checkpoint."""
    for line in lines:
        logger.write(line)
    return json.loads(json.dumps(logger.state_dict()))


def test_a_run_shows_what_is_in_its_metrics(tmp_path: Path, directory: Path) -> None:
    loggers = make_loggers(LoggerConfig(tensorboard=True), tmp_path, {})
    for line in LINES:
        for logger in loggers:
            logger.write(line)
        written = jsonl_lines(tmp_path / "metrics.jsonl")
        assert tensorboard_points(directory) == points(written)  # at once, not at the end
    assert written == LINES
    for logger in loggers:
        logger.close()


def test_extreme_numbers_are_shown(directory: Path) -> None:
    TensorboardLogger(directory).write({"frames": 1, "a": math.nan, "b": 1e300, "c": -math.inf})
    (_, _, a), *rest = tensorboard_points(directory)
    assert math.isnan(a)
    assert rest == [(1, "b", math.inf), (1, "c", -math.inf)]


def test_a_resume_hides_the_lines_after_the_checkpoint(directory: Path) -> None:
    killed = TensorboardLogger(directory)
    state = write(killed, *LINES[:2])
    # The last one is of an end that was none: at the checkpoint's own frame, with a name of its own
    write(killed, LINES[2], {"frames": 20, "eval/episode_return": 5.0})

    resumed = TensorboardLogger(directory)
    resumed.load_state_dict(state)
    assert len(list(directory.iterdir())) == 1  # the checkpoint may prove not to fit
    resumed.start()
    assert tensorboard_points(directory) == points(LINES[:2])
    assert resumed.state_dict() == state
    write(resumed, *LINES[2:])
    assert tensorboard_points(directory) == points(LINES)
    assert len(list(directory.iterdir())) == 2


def test_a_resume_from_before_the_first_line_hides_all(directory: Path) -> None:
    killed = TensorboardLogger(directory)
    state = write(killed)
    write(killed, *LINES)
    resumed = TensorboardLogger(directory)
    resumed.load_state_dict(state)
    assert len(list(directory.iterdir())) == 1  # the checkpoint may prove not to fit
    resumed.start()
    assert tensorboard_points(directory) == []
    write(resumed, LINES[1])
    assert tensorboard_points(directory) == points([LINES[1]])


def test_what_no_checkpoint_knows_of_is_kept_up_to_the_first_line(directory: Path) -> None:
    write(TensorboardLogger(directory), *LINES[:3])
    write(TensorboardLogger(directory), *LINES[2:])
    assert tensorboard_points(directory) == points(LINES)


def test_a_directory_that_cannot_be_made_is_said_once(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory.write_text("in the way")
    logger = TensorboardLogger(directory)
    write(logger, *LINES)
    logger.close()
    assert warnings(caplog) == 1
    assert str(directory) in caplog.text


def test_a_full_disk_costs_the_lines_it_does_not_take(directory: Path) -> None:
    """The file may only grow to the middle of a line, then again without limit."""
    script = """
import resource, signal, sys
from pathlib import Path
from test_tensorboard import LINES
from trainers.loggers.tensorboard import TensorboardLogger
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
logger = TensorboardLogger(Path(sys.argv[1]))
logger.write(LINES[0])
(path,) = Path(sys.argv[1]).iterdir()
limit = path.stat().st_size + 40
for line, size in zip(LINES[1:], (limit, limit, resource.RLIM_INFINITY)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    logger.write(line)
    assert size != limit or path.stat().st_size == limit, "this test wants half a line"
"""
    process = subprocess.run(
        [sys.executable, "-c", script, str(directory)],
        env={"PYTHONPATH": ":".join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr.count("cannot write") == 1
    assert "Traceback" not in process.stderr
    assert tensorboard_points(directory) == points([LINES[0], LINES[3]])

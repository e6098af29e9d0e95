"""The loggers: what they write, what a resume drops, and that none can stop a run."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
import wandb
from wandb.proto.wandb_internal_pb2 import Record

from trainers import loggers
from trainers.config import LoggerConfig, WandbConfig
from trainers.loggers import JsonlLogger, WandbLogger, make_loggers

NAN, INF = float("nan"), float("inf")


def wandb_config(mode: Literal["auto", "online", "offline"] = "auto") -> LoggerConfig:
    return LoggerConfig(
        WandbConfig(project="of-tests", group="a group", tags=["a", "b"], mode=mode)
    )


def read(path: Path) -> list[dict[str, float | None]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def warnings(caplog: pytest.LogCaptureFixture) -> int:
    return sum(
        record.name == "trainers" and record.levelno == logging.WARNING for record in caplog.records
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


# metrics.jsonl ------------------------------------------------------------------------------------


def test_lines_come_back_and_are_there_at_once(path: Path) -> None:
    logger = JsonlLogger(path)
    lines = [{"frames": 1_000, "loss/actor": -0.1}, {"frames": 2_000, "loss/actor": 1e-300}]
    for count, line in enumerate(lines, start=1):
        logger.write(line)
        assert read(path) == lines[:count]


def test_numbers_that_json_lacks_become_null(path: Path) -> None:
    JsonlLogger(path).write({"frames": 1, "a": NAN, "b": INF, "c": -INF, "d": 0.5})
    assert path.read_text() == '{"frames": 1, "a": null, "b": null, "c": null, "d": 0.5}\n'


def test_goes_on_behind_earlier_lines(path: Path) -> None:
    JsonlLogger(path).write({"frames": 1})
    JsonlLogger(path).write({"frames": 2})
    assert read(path) == [{"frames": 1}, {"frames": 2}]


@pytest.mark.parametrize("rest", [b'{"frames": 2, "lo', b"\xff\x00"])
def test_drops_a_last_line_that_was_cut(path: Path, rest: bytes) -> None:
    path.write_bytes(b'{"frames": 1}\n' + rest)
    logger = JsonlLogger(path)
    assert read(path) == [{"frames": 1}]
    logger.write({"frames": 2})
    assert read(path) == [{"frames": 1}, {"frames": 2}]


def test_resume_drops_the_lines_after_the_checkpoint(path: Path) -> None:
    killed = JsonlLogger(path)
    killed.write({"frames": 1})
    state = json.loads(json.dumps(killed.state_dict()))
    killed.write({"frames": 2})
    killed.write({"frames": 3})

    resumed = JsonlLogger(path)
    resumed.load_state_dict(state)
    assert read(path) == [{"frames": 1}]
    resumed.write({"frames": 2})
    assert read(path) == [{"frames": 1}, {"frames": 2}]
    assert resumed.state_dict() == {"bytes": path.stat().st_size}


def test_resume_keeps_and_names_a_file_that_is_too_short(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text('{"frames": 1}\n')
    logger = JsonlLogger(path)
    logger.load_state_dict({"bytes": 1_000})
    logger.write({"frames": 2})
    assert read(path) == [{"frames": 1}, {"frames": 2}]
    assert warnings(caplog) == 1
    assert str(path) in caplog.text


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
    assert read(path) == [{"frames": 3}]


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
    assert read(path) == [{"frames": 1}, {"frames": 3}]


# Weights & Biases ---------------------------------------------------------------------------------

LOG_AND_CLOSE = """
import logging, sys
from pathlib import Path
logging.basicConfig(level=logging.INFO)
from trainers import loggers
from tests.test_loggers import wandb_config
loggers.WANDB_TIMEOUT = 3
run_dir = Path(sys.argv[1])
made = loggers.make_loggers(wandb_config(sys.argv[2]), run_dir, {"seed": 7})
assert sys.stdout is sys.__stdout__ and sys.stderr is sys.__stderr__, "the terminal is ours"
for frames in (1_000, 2_000):
    for logger in made:
        logger.write({"frames": frames, "eval/episode_return": frames / 2})
for logger in made:
    logger.close()
"""


def log_and_close(
    run_dir: Path, mode: str = "auto", **env: str
) -> subprocess.CompletedProcess[str]:
    """Two lines to a run in a process of its own, without input; it must end by itself."""
    return subprocess.run(
        [sys.executable, "-c", LOG_AND_CLOSE, str(run_dir), mode],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])} | env,
    )


def wandb_files(run_dir: Path) -> list[Path]:
    return sorted((run_dir / "wandb").glob("offline-run-*/*.wandb"))


def wandb_records(path: Path) -> list[Record]:
    """The records of an offline run: LevelDB's log format behind a header of 7 bytes."""
    data, at, records, parts = path.read_bytes(), 7, [], b""
    while at + 7 <= len(data):
        if 32_768 - at % 32_768 < 7:  # too little left in the block for a record's header
            at += 32_768 - at % 32_768
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            records.append(Record.FromString(parts))
            parts = b""
    return records


def wandb_lines(path: Path) -> list[dict[str, float]]:
    rows = [record.history.item for record in wandb_records(path) if record.HasField("history")]
    return [
        {
            key: json.loads(item.value_json)
            for item in row
            if (key := item.key or item.nested_key[0])
        }
        for row in rows
    ]


def test_wandb_without_key_is_a_readable_offline_run(tmp_path: Path) -> None:
    process = log_and_close(tmp_path)
    assert process.stdout == ""
    assert "WARNING" not in process.stderr
    assert "wandb sync" in process.stderr

    (file,) = wandb_files(tmp_path)
    for line, frames in zip(wandb_lines(file), (1_000, 2_000), strict=True):
        assert line["frames"] == frames
        assert line["eval/episode_return"] == frames / 2

    (run,) = [record.run for record in wandb_records(file) if record.HasField("run")]
    assert (run.project, run.run_group, run.display_name) == ("of-tests", "a group", tmp_path.name)
    assert list(run.tags) == ["a", "b"]
    assert {item.key: item.value_json for item in run.config.update}["seed"] == "7"
    metrics = [record.metric for record in wandb_records(file) if record.HasField("metric")]
    assert "frames" in {metric.step_metric for metric in metrics}
    assert read(tmp_path / "metrics.jsonl")[0]["frames"] == 1_000


def test_wandb_goes_on_under_the_same_id(tmp_path: Path) -> None:
    log_and_close(tmp_path)
    run_id = (tmp_path / "wandb_id").read_text().strip()
    log_and_close(tmp_path)
    assert (tmp_path / "wandb_id").read_text().strip() == run_id
    assert {file.name for file in wandb_files(tmp_path)} == {f"run-{run_id}.wandb"}


@pytest.mark.parametrize("content", ["", "../../etc", "x" * 65, "two words"])
def test_wandb_id_that_is_no_id_is_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / "wandb_id").write_text(content)
    run_id = loggers._wandb_id(tmp_path)
    assert re.fullmatch("[0-9a-f]{8}", run_id)
    assert (tmp_path / "wandb_id").read_text() == run_id + "\n"


def test_wandb_asked_online_without_key_warns_and_goes_offline(tmp_path: Path) -> None:
    process = log_and_close(tmp_path, mode="online")
    assert "WARNING" in process.stderr
    assert "no API key" in process.stderr
    assert len(wandb_lines(*wandb_files(tmp_path))) == 2


def test_wandb_with_key_but_no_server_goes_offline(tmp_path: Path) -> None:
    process = log_and_close(tmp_path, WANDB_API_KEY="a" * 40, WANDB_BASE_URL="http://127.0.0.1:9")
    assert process.stdout == ""
    assert "wandb:" not in process.stderr  # its own messages
    assert "is offline" in process.stderr
    assert len(wandb_lines(*wandb_files(tmp_path))) == 2


def test_wandb_key_of_the_wrong_form_goes_offline(tmp_path: Path) -> None:
    process = log_and_close(tmp_path, WANDB_API_KEY="short")
    assert "is offline" in process.stderr
    assert len(wandb_lines(*wandb_files(tmp_path))) == 2


def test_wandb_mode_of_the_environment_counts(tmp_path: Path) -> None:
    process = log_and_close(tmp_path, WANDB_MODE="disabled")
    assert process.stdout == ""
    assert not (tmp_path / "wandb").exists()
    assert len(read(tmp_path / "metrics.jsonl")) == 2


def test_a_wandb_that_cannot_start_leaves_the_run_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(**_: object) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr(wandb, "init", broken)
    jsonl, logger = make_loggers(wandb_config("offline"), tmp_path, {})
    for one in (jsonl, logger):
        one.write({"frames": 1})
        one.close()
    assert "out of order" in caplog.text
    assert warnings(caplog) == 1
    assert read(tmp_path / "metrics.jsonl") == [{"frames": 1}]


@pytest.mark.parametrize("method", ["define_metric", "log", "finish"])
def test_a_wandb_that_breaks_later_is_said_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    method: str,
) -> None:
    class Run:
        calls = 0

        def __getattr__(self, name: str):
            def call(*_: object, **__: object) -> None:
                if name == method:
                    Run.calls += 1
                    raise OSError("gone")

            return call

    monkeypatch.setattr(wandb, "init", lambda **_: Run())
    logger = WandbLogger(WandbConfig(mode="offline"), tmp_path, {})
    logger.write({"frames": 1})
    logger.write({"frames": 2})
    logger.close()
    logger.close()
    assert Run.calls == 1
    assert warnings(caplog) == 1
    assert "gone" in caplog.text


def test_only_the_jsonl_file_without_a_wandb_config(tmp_path: Path) -> None:
    (logger,) = make_loggers(LoggerConfig(), tmp_path, {})
    assert isinstance(logger, JsonlLogger)

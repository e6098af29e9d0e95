"""Weights & Biases: what it gets, that it goes on under one id, and that it cannot stop a run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
import wandb
from support.logs import jsonl_lines, wandb_files, wandb_lines, wandb_records, warnings

from trainers.config import LoggerConfig, WandbConfig
from trainers.loggers import WandbLogger, make_loggers
from trainers.loggers.wandb import _wandb_id


def wandb_config(mode: Literal["auto", "online", "offline"] = "auto") -> LoggerConfig:
    return LoggerConfig(
        wandb=WandbConfig(project="of-tests", group="a group", tags=["a", "b"], mode=mode)
    )


LOG_AND_CLOSE = """
import logging, sys
from pathlib import Path
logging.basicConfig(level=logging.INFO)
from test_wandb import wandb_config
from trainers.loggers import make_loggers, wandb
wandb.WANDB_TIMEOUT = 3
run_dir = Path(sys.argv[1])
already = set(run_dir.iterdir())
jsonl, wandb_logger = made = make_loggers(wandb_config(sys.argv[2]), run_dir, {"seed": 7})
assert set(run_dir.iterdir()) == already, "a resume may yet be refused"
wandb_logger.start()
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
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | env,
    )


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
    assert jsonl_lines(tmp_path / "metrics.jsonl")[0]["frames"] == 1_000


def test_wandb_goes_on_under_the_same_id(tmp_path: Path) -> None:
    log_and_close(tmp_path)
    run_id = (tmp_path / "wandb_id").read_text().strip()
    log_and_close(tmp_path)
    assert (tmp_path / "wandb_id").read_text().strip() == run_id
    assert {file.name for file in wandb_files(tmp_path)} == {f"run-{run_id}.wandb"}


@pytest.mark.parametrize("content", ["", "../../etc", "x" * 65, "two words"])
def test_wandb_id_that_is_no_id_is_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / "wandb_id").write_text(content)
    run_id = _wandb_id(tmp_path)
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
    assert len(jsonl_lines(tmp_path / "metrics.jsonl")) == 2


def test_a_wandb_that_cannot_start_leaves_the_run_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(**_: object) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr(wandb, "init", broken)
    jsonl, logger = make_loggers(wandb_config("offline"), tmp_path, {})
    assert isinstance(logger, WandbLogger)
    logger.start()
    for one in (jsonl, logger):
        one.write({"frames": 1})
        one.close()
    assert "out of order" in caplog.text
    assert warnings(caplog) == 1
    assert jsonl_lines(tmp_path / "metrics.jsonl") == [{"frames": 1}]


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
    logger.start()
    logger.write({"frames": 1})
    logger.write({"frames": 2})
    logger.close()
    logger.close()
    assert Run.calls == 1
    assert warnings(caplog) == 1
    assert "gone" in caplog.text

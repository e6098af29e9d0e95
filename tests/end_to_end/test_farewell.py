"""What a run says last: where to look."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from running import TINY, train

from trainers import run as run_module
from trainers.policies import evaluate
from trainers.saving.checkpoint import load

RUN = Path("run")
WITH_REPORT = (*TINY, "report.interval_s=1e6", "run_dir=run")

Capture = pytest.CaptureFixture[str]


def said_last(capfd: Capture) -> list[str]:
    """What follows the line that says where the run ended."""
    lines = capfd.readouterr().err.splitlines()
    (end,) = [number for number, line in enumerate(lines) if line.startswith("ended at frame")]
    return lines[end + 1 :]


def test_report_best_policy_and_a_command_that_works(capfd: Capture) -> None:
    pytest.importorskip("av", reason="the extra video is not installed")
    assert train(*WITH_REPORT) == 0
    report, best, film = said_last(capfd)
    assert report == "report: run/report.html"
    assert (RUN / "report.html").is_file()
    kept = load(RUN / "best")
    value, frame = kept["eval/episode_return"], kept["frames"]
    assert best == f"best policy: run/best (return {value:.6g} at frame {frame})"
    _, _, script, *arguments = shlex.split(film)
    assert (script, arguments) == ("evaluate.py", ["run_dir=run", "video=true"])
    assert evaluate.main(arguments) == 0
    assert (RUN / json.loads((RUN / "evaluation-best.json").read_text())["video"]).is_file()


def test_only_what_is_there(capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "find_spec", lambda name: None)
    off = ("checkpoint.best=false", "plugins=[my_plugin]", "total_frames=50")
    assert train(*TINY, *off, "run_dir=run") == 0  # TINY makes no report
    (evaluation,) = said_last(capfd)
    kind, _, script, *arguments = shlex.split(evaluation)
    assert (kind, script) == ("evaluation:", "evaluate.py")
    assert arguments == ["run_dir=run", "which=latest", "plugins=[my_plugin]"]
    assert evaluate.main(arguments) == 0


def test_a_place_of_an_unusual_name(capfd: Capture) -> None:
    place = "it's a=b, $1 (2)"
    quoted = place.replace("'", r"\'")
    stopped = ("total_frames=50", "stop_at=45", f"run_dir='{quoted}'")
    assert train(*TINY, *stopped) == 0
    again, *_, look = [line for line in capfd.readouterr().err.splitlines() if ".py " in line]
    arguments = shlex.split(look.partition("evaluate.py ")[2])
    assert evaluate.main([each for each in arguments if each != "video=true"]) == 0
    assert (Path(place) / "evaluation-best.json").is_file()
    assert train(*shlex.split(again.partition("train.py ")[2])) == 0


def test_a_report_of_another_day_is_not_meant(capfd: Capture) -> None:
    RUN.mkdir()
    (RUN / "report.html").write_text("old")
    assert train(*TINY, "total_frames=50", "run_dir=run") == 0
    assert not any("report" in line for line in said_last(capfd))


def test_a_run_that_was_stopped_can_be_looked_at(
    capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNAL", "SIGTERM")
    monkeypatch.setenv("FRAME", "110")
    assert train(*WITH_REPORT, "plugins=[my_plugin]", "hooks=[signal]") == 75
    last = said_last(capfd)
    assert [line.partition(":")[0] for line in last[:2]] == ["report", "best policy"]


def test_a_best_policy_that_is_damaged_is_named_without_its_return(
    finished: Path, tmp_path: Path
) -> None:
    (tmp_path / "best").mkdir()
    assert run_module._achieved(tmp_path / "best") == ""
    assert run_module._achieved(finished / "best").startswith(" (return -")

"""A page on the run, made by another process, that costs the training nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.doubles import stub
from support.logs import warnings
from support.made_up_runs import line, make_run
from tensordict import TensorDict

from trainers.hooks import Report, reporting

ROOT = Path(__file__).resolve().parents[2]
SLEEPS = ("-c", "import time; time.sleep(300)")
Patch = pytest.MonkeyPatch
Log = pytest.LogCaptureFixture


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", total_frames=9000)


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path) -> Any:
    """No process, running or dead, and no half-written file."""
    before = children()
    yield
    assert children() <= before
    assert not list((tmp_path / "run").glob(".report*"))


def children() -> set[str]:
    tasks = Path("/proc/self/task").iterdir()
    return {child for task in tasks for child in (task / "children").read_text().split()}


def due(run: Path) -> Report:
    """A report whose page is due, again and again."""
    return Report(run, interval_s=1e-9)


def process_of(report: Report) -> subprocess.Popen[bytes]:
    assert report._process is not None
    return report._process


def go_on(report: Report, trainer: Any) -> None:
    report(trainer, TensorDict())


def page_of(run: Path) -> str:
    return (run / "report.html").read_text()


def test_a_page_while_the_run_is_running(run: Path) -> None:
    report, trainer = due(run), stub()
    go_on(report, trainer)
    process = process_of(report)
    process.wait(60)
    assert 'class="state running"' in page_of(run)
    assert 'http-equiv="refresh" content="1"' in page_of(run)
    go_on(report, trainer)
    assert report._process is None
    go_on(report, trainer)  # no line was written since
    assert report._process is None


def test_the_page_is_made_anew_when_there_is_news(run: Path) -> None:
    report, trainer = due(run), stub()
    for frames in (3, 4):
        go_on(report, trainer)
        process_of(report).wait(60)
        go_on(report, trainer)
        assert f"{frames},000 of 9,000 frames" in page_of(run)
        with (run / "metrics.jsonl").open("a") as file:
            file.write(line(4000, eval__episode_return=5.0) + "\n")


def test_nothing_before_the_interval_has_passed(run: Path) -> None:
    report = Report(run, interval_s=1e6)
    go_on(report, stub())
    assert report._process is None


def test_nothing_before_the_first_line(run: Path, caplog: Log) -> None:
    (run / "metrics.jsonl").unlink()
    report, trainer = due(run), stub()
    go_on(report, trainer)
    report.finish(trainer)
    assert not (run / "report.html").exists()
    assert warnings(caplog) == 0


def test_there_is_one_process_at_a_time(run: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(reporting, "PROGRAM", SLEEPS)
    report, trainer = due(run), stub()
    go_on(report, trainer)
    process = process_of(report)
    for _ in range(3):
        go_on(report, trainer)
    assert process_of(report) is process
    monkeypatch.undo()
    report.finish(trainer)
    assert process.returncode == -signal.SIGKILL
    assert 'class="state unfinished"' in page_of(run)


@pytest.mark.parametrize(
    ("goal_reached", "interrupted", "reason", "state"),
    [
        (True, False, None, "finished"),
        (False, False, "max_seconds=1", "unfinished"),
        (True, True, "SIGTERM", "unfinished"),
        (False, True, None, "failed"),  # by an error
    ],
)
def test_the_last_page_tells_how_the_run_has_ended(
    goal_reached: bool, interrupted: bool, reason: str | None, state: str, run: Path
) -> None:
    trainer = stub()
    trainer.goal_reached, trainer.interrupted = goal_reached, interrupted
    trainer.stop_reason = reason
    Report(run, interval_s=60).finish(trainer)
    assert f'class="state {state}"' in page_of(run)
    assert "http-equiv" not in page_of(run)


def test_the_end_waits_for_it_but_not_for_long(run: Path, monkeypatch: Patch, caplog: Log) -> None:
    monkeypatch.setattr(reporting, "PROGRAM", SLEEPS)
    monkeypatch.setattr(reporting, "LAST_WAIT_S", 0.1)
    due(run).finish(stub())
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{run}/report.html is not made, training goes on without it: it takes longer than 0.1 "
        "seconds"
    )


def test_a_second_signal_ends_it_as_well(run: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(reporting, "PROGRAM", SLEEPS)
    wait = subprocess.Popen.wait

    def interrupted(process: Any, timeout: float | None = None) -> int:
        if timeout is not None:
            raise KeyboardInterrupt
        return wait(process)

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        due(run).finish(stub())


def test_what_goes_wrong_is_said_once(run: Path, caplog: Log) -> None:
    (run / "report.html").mkdir()
    report, trainer = due(run), stub()
    go_on(report, trainer)
    process_of(report).wait(60)
    go_on(report, trainer)
    report.finish(trainer)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert f"{run}/report.html is not made, training goes on without it: " in record.getMessage()
    assert "Is a directory" in record.getMessage()


def test_a_package_that_is_missing_is_named(
    run: Path, tmp_path: Path, monkeypatch: Patch, caplog: Log
) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError('No module named matplotlib')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    due(run).finish(stub())
    assert caplog.messages[0].endswith("ImportError: No module named matplotlib")


def test_a_process_that_cannot_be_started(run: Path, monkeypatch: Patch, caplog: Log) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    report, trainer = due(run), stub()
    go_on(report, trainer)
    report.finish(trainer)
    assert warnings(caplog) == 1
    assert "No such file or directory: '/no/such/python'" in caplog.messages[0]


def test_it_is_no_time_of_training(run: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(reporting, "PROGRAM", ("-c", "import time; time.sleep(0.2)"))
    trainer = stub()
    with trainer.stopwatch.running():
        Report(run, interval_s=60).finish(trainer)
        assert trainer.stopwatch.seconds - trainer.stopwatch.training_seconds >= 0.2


def test_it_is_found_wherever_the_run_was_started(
    run: Path, tmp_path: Path, monkeypatch: Patch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("trainers", "json", "numpy"):  # not to be taken for the real ones
        (elsewhere / f"{name}.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(elsewhere)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    due(Path("../run")).finish(stub())
    assert 'class="state unfinished"' in page_of(run)


def test_it_ends_with_a_run_that_is_killed(run: Path, tmp_path: Path) -> None:
    written = tmp_path / "pid"
    (tmp_path / "matplotlib.py").write_text(
        "import os, pathlib, time\n"
        f"pathlib.Path({str(written)!r}).write_text(str(os.getpid()))\n"
        "time.sleep(300)"
    )
    killed = (
        "import os, signal, sys, time\n"
        "from pathlib import Path\n"
        "from tensordict import TensorDict\n"
        "from support.doubles import stub\n"
        "from trainers.hooks import Report\n"
        "Report(Path(sys.argv[1]), 1e-9)(stub(), TensorDict())\n"
        "while not (Path(sys.argv[2]).exists() and Path(sys.argv[2]).read_text()):\n"
        "    time.sleep(0.01)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests", tmp_path)))
    done = subprocess.run(
        [sys.executable, "-c", killed, str(run), str(written)],
        env=os.environ | {"PYTHONPATH": path},
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL
    process = Path("/proc") / written.read_text()
    end = time.monotonic() + 30
    while process.exists() and "Z (zombie)" not in (process / "status").read_text():
        assert time.monotonic() < end
        time.sleep(0.02)

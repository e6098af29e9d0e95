"""`report.html` is there while a run is running, and changes nothing about it."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import TINY, TINY_PPO, assert_equal_runs, lines, train

RUN = Path("run")
OFTEN = "report.interval_s=0.01"


def state() -> str:
    page = (RUN / "report.html").read_text()
    return page.partition('class="state ')[2].partition('"')[0]


def test_a_run_with_a_report_is_the_one_without(finished: Path) -> None:
    assert train(*TINY, OFTEN, "run_dir=run") == 0
    assert_equal_runs(RUN, finished)
    assert state() == "finished"
    assert [path.name for path in RUN.iterdir() if path.name.startswith(".")] == []


def test_a_run_that_was_stopped_and_resumed(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNAL", "SIGTERM")
    monkeypatch.setenv("FRAME", "110")
    mine = ("plugins=[my_plugin]", "hooks=[signal]")
    assert train(*TINY, OFTEN, *mine, "run_dir=run") == 75
    assert state() == "unfinished"
    assert "100 of 160 frames" in (RUN / "report.html").read_text()
    assert train("resume=run", "plugins=[my_plugin]", "hooks=[]") == 0
    assert state() == "finished"
    assert "resumed 1 time." in " ".join((RUN / "report.html").read_text().split())
    assert_equal_runs(RUN, finished)


def test_it_is_made_while_ppo_is_running(monkeypatch: pytest.MonkeyPatch) -> None:
    # Long enough for a page, however slow the machine: the run ends when there is one.
    more = ("total_frames=1_000_000", "plugins=[my_plugin]", "hooks=[until]")
    monkeypatch.setenv("FILE", "run/report.html")
    assert train(*TINY_PPO, OFTEN, *more, "run_dir=run") == 75
    assert lines(RUN)[-1]["frames"] < 1_000_000
    assert state() == "unfinished"


def test_an_early_stop_is_an_end() -> None:
    stop = ("early_stop.metric=eval/episode_return", "early_stop.at_least=-1e9")
    assert train(*TINY, "report.interval_s=1e6", *stop, "run_dir=run") == 0
    assert state() == "finished"
    assert "60 of 160 frames" in (RUN / "report.html").read_text()


def test_a_page_that_cannot_be_written_harms_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    (RUN / "report.html").mkdir(parents=True)
    assert train(*TINY, OFTEN, "run_dir=run") == 0
    said = capfd.readouterr().err
    assert said.count("report.html is not made, training goes on without it: ") == 1


def test_0_makes_none() -> None:
    assert train(*TINY, "report.interval_s=0", "run_dir=run") == 0
    assert not (RUN / "report.html").exists()

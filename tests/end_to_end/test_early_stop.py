"""A run that ends on a metric is finished, and knows so."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import TINY, assert_equal_runs, last_state, lines, names, train

RUN = Path("run")
EVALUATION = "eval/episode_return"
# The first lines with an episode and with an evaluation meet these; a constant has no new best.
TRAINED = ("early_stop.metric=train/episode_return", "early_stop.at_least=-1e6")
EVALUATED = ("early_stop.metric=eval/episode_return", "early_stop.at_least=-1e6")
PATIENT = ("early_stop.metric=train/lr/actor", "early_stop.patience=3")

Capture = pytest.CaptureFixture[str]


def test_a_training_metric_ends_it_with_a_final_evaluation(capfd: Capture) -> None:
    assert train(*TINY, *TRAINED, "run_dir=run") == 0
    said = capfd.readouterr().err
    assert "ended at frame 50, update 10 (train/episode_return=-" in said
    assert " is at least -1e+06); metrics in run/metrics.jsonl\n" in said
    assert "go on with" not in said
    assert [line["frames"] for line in lines(RUN)] == [50, 50]
    assert [EVALUATION in line for line in lines(RUN)] == [False, True]
    assert names(RUN)[0] == "0000000050-0000000010"

    before = {path: path.stat().st_mtime_ns for path in RUN.rglob("*")}
    for resume in (("resume=run",), (*TINY, *TRAINED, "resume=auto", "run_dir=run")):
        assert train(*resume) == 0
        assert "run is finished: 50 frames, train/episode_return=-" in capfd.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in RUN.rglob("*")} == before


def test_an_evaluation_ends_it_without_another(capfd: Capture, finished: Path) -> None:
    assert train(*TINY, *EVALUATED, "run_dir=run") == 0
    assert [line["frames"] for line in lines(RUN)] == [50, 60]
    assert EVALUATION in lines(RUN)[-1]
    # Another condition: there is something left to do.
    assert train("resume=run", "early_stop.at_least=0") == 0
    said = capfd.readouterr().err
    assert "resume: early_stop.at_least: -1000000.0 -> 0.0" in said
    assert "ended at frame 160, update 120; metrics in" in said
    assert lines(RUN)[-1][EVALUATION] == lines(finished)[-1][EVALUATION]


def test_patience_survives_a_resume() -> None:
    assert train(*TINY, *PATIENT, "run_dir=straight") == 0
    assert [line["frames"] for line in lines(Path("straight"))] == [50, 60, 100, 120]
    assert train(*TINY, *PATIENT, "run_dir=run", "stop_at=70") == 0
    assert train("resume=run") == 0
    assert_equal_runs(RUN, Path("straight"))


def test_a_signal_at_its_end_leaves_the_evaluation_to_the_resume(
    monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    monkeypatch.setenv("SIGNAL", "SIGTERM")
    monkeypatch.setenv("FRAME", "50")
    signalled = ("plugins=[my_plugin]", "hooks=[signal]")
    assert train(*TINY, *TRAINED, *signalled, "run_dir=run") == 75
    assert " train.py resume=run 'plugins=[my_plugin]'\n" in capfd.readouterr().err
    assert [EVALUATION in line for line in lines(RUN)] == [False]
    assert last_state(RUN)["clock"]["frames"] == 50
    assert train("resume=run", "plugins=[my_plugin]", "hooks=[]") == 0
    assert "(train/episode_return=-" in capfd.readouterr().err
    assert [line["frames"] for line in lines(RUN)] == [50, 50]
    assert EVALUATION in lines(RUN)[-1]
    assert (RUN / "best").is_dir()


def test_a_metric_that_there_is_not_is_said(capfd: Capture) -> None:
    wrong = ("early_stop.metric=eval/retrun", "early_stop.at_least=5")
    assert train(*TINY, *wrong, "run_dir=run", "total_frames=20") == 0
    assert "early_stop.metric: no line has eval/retrun, the last one" in capfd.readouterr().err

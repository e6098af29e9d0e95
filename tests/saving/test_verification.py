"""What `scripts/verify_resume.py` tries out; that it does, `tests/scripts` has the proof."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from support.scripts import load_script

from trainers.config import ConfigError
from trainers.saving import comparison, verification
from trainers.saving.verification import Straight, checked, run_killed

SHORT = ("env=Pendulum", "total_frames=1000", "checkpoint.keep=3")


def test_a_run_has_ten_checkpoints_unless_its_interval_is_given() -> None:
    assert checked(SHORT) == [*SHORT, "checkpoint.interval=100"]
    given = (*SHORT, "checkpoint.interval=7")
    assert checked(given) == [*given]
    with pytest.raises(ConfigError, match=r"checkpoint\.interval: got 0"):
        checked((*SHORT, "checkpoint.interval=0"))


def killable(times: int) -> type:
    """Stands for a run that goes on from its checkpoint until it was killed so often."""

    class Run:
        made = 0

        def __init__(self, overrides: Any, run_dir: Path) -> None:
            Run.made += 1
            run_dir.mkdir(exist_ok=True)
            (run_dir / "train.log").write_text("resumed from run/checkpoints/1")

        def await_saved(self, frames: float) -> None: ...

        def outlives(self, seconds: float) -> bool:
            return not Run.at_its_end()

        @staticmethod
        def at_its_end() -> bool:
            return Run.made > times

        def kill(self) -> None: ...

        def finish(self) -> None: ...

    return Run


STRAIGHT = Straight(Path("nowhere"), start_up_s=1.0, training_s=1.0)


def pretend(monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    def saved_frames(run_dir: Path) -> int:
        return 1_000 if run_dir == STRAIGHT.run_dir or run.at_its_end() else 500

    monkeypatch.setattr(verification, "_Run", run)
    monkeypatch.setattr(verification, "_saved_frames", saved_frames)


@pytest.mark.parametrize(("times", "kills"), [(5, 3), (2, 2)])
def test_there_may_be_fewer_kills(
    times: int, kills: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, killable(times))
    assert len(run_killed([], tmp_path / "killed", STRAIGHT, kills=3, seed=0)) == kills


def test_a_run_that_is_too_fast_for_the_first_kill_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: Any = killable(2)
    monkeypatch.setattr(run, "at_its_end", staticmethod(lambda: run.made in (1, 2, 4)))
    pretend(monkeypatch, run)
    assert len(run_killed([], tmp_path / "killed", STRAIGHT, kills=3, seed=0)) == 1


def test_without_any_kill_nothing_is_proved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, killable(0))
    with pytest.raises(RuntimeError, match="never killed and continued from a checkpoint"):
        run_killed([], tmp_path / "killed", STRAIGHT, kills=3, seed=0)


@pytest.mark.parametrize("kills", [2, 3])
def test_fewer_kills_than_asked_for_are_said(
    kills: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verification, "run_straight", lambda *_: STRAIGHT)
    monkeypatch.setattr(verification, "run_killed", lambda *_: ["after checkpoint 1"] * kills)
    monkeypatch.setattr(comparison, "differences", lambda *_: {"networks": []})
    monkeypatch.setattr(sys, "argv", ["verify_resume.py", *SHORT, "--kills=3"])
    assert load_script("verify_resume").main() == 0
    said = capsys.readouterr().out
    assert ("only 2 of 3 kills struck: the run was at its end before" in said) == (kills == 2)
    assert f"after {kills} kills the resumed run is the same, bit for bit" in said

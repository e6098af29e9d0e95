"""`eval.video=true`: films in the run directory and in the loggers, and the same run otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import TINY, assert_equal_runs, forked, lines, train
from support.logs import points, tensorboard_points, wandb_files, wandb_lines
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trainers.config import sections
from trainers.policies import films

av = pytest.importorskip("av", reason="the extra video is not installed")

RUN = Path("run")
FILMED = (*TINY, "eval.video=true", "run_dir=run")
NAMES = [f"eval-{frames:010d}.mp4" for frames in (60, 120, 160)]


def filmed(run_dir: Path) -> list[str]:
    return sorted(path.name for path in (run_dir / "videos").iterdir())


def test_a_film_for_each_evaluation_and_the_same_run(finished: Path) -> None:
    assert train(*FILMED) == 0
    assert_equal_runs(RUN, finished)
    assert filmed(RUN) == NAMES
    for name in NAMES:
        with av.open(str(RUN / "videos" / name)) as file:
            stream = file.streams.video[0]
            assert (stream.frames, stream.width, stream.height) == (26, 500, 500)
    assert not (finished / "videos").exists()


def test_a_resume_stays_exact(finished: Path) -> None:
    assert train(*FILMED, "stop_at=90") == 0
    assert filmed(RUN) == [NAMES[0], "eval-0000000090.mp4"]  # it was evaluated at its end
    assert train("resume=run") == 0
    assert_equal_runs(RUN, finished)
    assert set(filmed(RUN)) >= set(NAMES)


def test_loggers_show_the_films() -> None:
    assert forked(*FILMED, "logger=[tensorboard,wandb]") == 0
    shown = EventAccumulator(str(RUN / "tensorboard"), {"images": 0}).Reload()
    assert shown.Tags()["images"] == ["eval/video"]
    assert [image.step for image in shown.Images("eval/video")] == [60, 120, 160]
    assert all(image.encoded_image_string[:3] == b"GIF" for image in shown.Images("eval/video"))
    assert tensorboard_points(RUN / "tensorboard") == points(lines(RUN))

    (file,) = wandb_files(RUN)
    sent = wandb_lines(file)
    assert [line["frames"] for line in sent if "loss/actor" in line] == [
        line["frames"] for line in lines(RUN)
    ]
    assert len(list((file.parent / "files" / "media" / "videos").rglob("*.mp4"))) == 3


def test_a_run_that_cannot_be_filmed_runs(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def dark(*_: object) -> None:
        raise films.RenderingError("it is dark")

    monkeypatch.setattr("trainers.hooks.films.check_rendering", dark)
    assert train(*FILMED) == 0
    assert capfd.readouterr().err.count("evaluations are not filmed: it is dark") == 1
    assert_equal_runs(RUN, finished)
    assert not (RUN / "videos").exists()


def test_without_the_extra_it_is_refused(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sections, "find_spec", lambda name: None)
    assert train(*FILMED) == 2
    said = capfd.readouterr().err
    assert said.startswith("train.py: eval.video: got true, expected false: PyAV")
    assert said.count("\n") == 1
    assert not RUN.exists()

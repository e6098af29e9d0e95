"""Films of evaluations, as a hook."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from support.doubles import Lines, make_trainer, stub
from support.environments import env_config
from support.states import assert_same
from tensordict import TensorDict, TensorDictBase
from torch import nn

from trainers import seeding
from trainers.config import EnvConfig
from trainers.environments.envs import Envs
from trainers.hooks import Evaluate, FilmEvaluations
from trainers.timetable import every

pytest.importorskip("av", reason="the extra video is not installed")

SCREEN = env_config("tests/Screen-v0", kwargs={"lengths": [3]})


class Still(nn.Module):
    """Does nothing."""

    def forward(self, data: TensorDictBase) -> TensorDictBase:
        return data.set("action", torch.zeros(len(data), 1))


class Shown(Lines):
    """A logger that notes the films it is shown."""

    def __init__(self, broken: bool = False) -> None:
        super().__init__()
        self.films: list[tuple[str, str, int]] = []
        self.broken = broken

    def write_video(self, name: str, path: Path, frames: int) -> None:
        assert path.stat().st_size > 500
        self.films.append((name, path.name, frames))
        if self.broken:
            raise OSError("the screen is black")


Make = Callable[..., tuple[Evaluate, FilmEvaluations]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """An evaluation of two episodes, and the hook that films it into `videos`."""

    def make_hooks(*loggers: Any, env: EnvConfig = SCREEN) -> tuple[Evaluate, FilmEvaluations]:
        evaluate = Evaluate(Still(), partial(Envs, env), episodes=2)
        return evaluate, FilmEvaluations(evaluate, env, tmp_path / "videos", loggers)

    return make_hooks


def films(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("videos/*"))


@pytest.mark.parametrize(("interval", "frames"), [(4, [4, 8, 10]), (5, [5, 10]), (0, [10])])
def test_every_evaluation_is_filmed_once(
    make: Make, interval: int, frames: list[int], tmp_path: Path
) -> None:
    shown, lines = Shown(), Lines()
    evaluate, hook = make(lines, shown)
    trainer = make_trainer(total_frames=10)
    trainer.register_hook("setup", hook.start)
    trainer.register_hook("post_steps", evaluate, when=every(interval))
    trainer.register_hook("shutdown", evaluate.final)
    trainer.register_hook("post_steps", hook)
    trainer.register_hook("shutdown", hook.final)
    trainer.train()
    names = [f"eval-{frame:010d}.mp4" for frame in frames]
    assert films(tmp_path) == names
    assert shown.films == [("eval/video", *each) for each in zip(names, frames, strict=True)]
    assert shown.lines == lines.lines == []


def test_the_random_state_of_training_stays(make: Make) -> None:
    evaluate, hook = make()
    seeding.seed_everything(5)
    before = seeding.random_state()
    evaluate(stub(), TensorDict())
    hook.start(stub())
    hook(stub(), TensorDict())
    assert_same(seeding.random_state(), before)


def test_films_take_no_time_of_training(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate, hook = make()
    trainer = stub()
    for name in ("check_rendering", "film"):
        monkeypatch.setattr(f"trainers.hooks.films.{name}", lambda *_, **__: time.sleep(0.05))
    evaluate(trainer, TensorDict())
    with trainer.stopwatch.running():
        hook.start(trainer)
        hook(trainer, TensorDict())
    assert trainer.stopwatch.seconds - trainer.stopwatch.training_seconds >= 0.1


def test_without_a_camera_it_is_said_once(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    evaluate, hook = make(env=env_config(kwargs={"lengths": [3]}))
    hook.start(stub())
    for frames in (1, 2):
        evaluate(stub(frames=frames), TensorDict())
        hook(stub(frames=frames), TensorDict())
    (message,) = caplog.messages
    assert message.startswith("evaluations are not filmed: tests/Tale-v0 cannot be rendered")
    assert films(tmp_path) == []


def test_a_film_that_cannot_be_written_stops_nothing(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "videos").write_text("in the way")
    evaluate, hook = make()
    evaluate(stub(frames=7), TensorDict())
    hook(stub(frames=7), TensorDict())
    assert [m for m in caplog.messages if m.startswith("NO FILM of the evaluation at frame 7: ")]


def test_a_logger_that_cannot_show_it_stops_nothing(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken, sound = Shown(broken=True), Shown()
    evaluate, hook = make(broken, sound)
    evaluate(stub(frames=7), TensorDict())
    hook(stub(frames=7), TensorDict())
    (name,) = films(tmp_path)
    assert sound.films == [("eval/video", name, 7)]
    (message,) = caplog.messages
    assert message.startswith("Shown does not show ")
    assert message.endswith(": the screen is black")


def test_a_signal_cuts_a_film_short(make: Make, tmp_path: Path) -> None:
    evaluate, hook = make()
    trainer = stub(frames=7)
    evaluate(trainer, TensorDict())
    trainer.stop("SIGTERM", interrupted=True)
    hook(trainer, TensorDict())
    assert films(tmp_path) == []

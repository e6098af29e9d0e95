"""Ends of a run other than its last frame."""

from __future__ import annotations

import json
import logging
import math
from typing import Any

import pytest
from support.doubles import make_trainer, stub
from tensordict import TensorDict

from trainers.config import EarlyStopConfig
from trainers.hooks import EarlyStop, StopAfter, WriteMetrics

METRIC = "eval/episode_return"


def at(trainer: Any, seconds: float) -> Any:
    """The trainer with its stopwatch set."""
    trainer.stopwatch.load_state_dict({"seconds": seconds, "paused_seconds": 0.0})
    return trainer


def test_the_seconds_count_from_the_start_of_this_process() -> None:
    trainer, limit = at(stub(), 100.0), StopAfter(5)
    limit.start(trainer)
    limit(at(trainer, 104.9), TensorDict())
    assert trainer.stop_reason is None
    limit(at(trainer, 105.0), TensorDict())
    assert trainer.stop_reason == "max_seconds=5"
    assert (trainer.complete, trainer.interrupted) == (False, False)


def test_max_seconds_ends_the_iteration_it_passes_in() -> None:
    trainer, limit = make_trainer(total_frames=10), StopAfter(1e-9)
    trainer.register_hook("setup", limit.start)
    trainer.register_hook("post_steps", limit)
    trainer.train()
    assert (trainer.frames, trainer.updates, trainer.complete) == (1, 1, False)


def early_stop(**condition: Any) -> tuple[EarlyStop, WriteMetrics]:
    """The hook, and the lines it looks at."""
    lines = WriteMetrics([], interval=0)
    return EarlyStop(lines, EarlyStopConfig(metric=METRIC, **condition)), lines


def ends_at(values: list[float | None], **condition: Any) -> int | None:
    """The number of the line at which a run ends whose lines have these values."""
    hook, lines = early_stop(**condition)
    trainer = stub()
    for number, value in enumerate(values, start=1):
        lines.last_line = {"frames": number} | ({} if value is None else {METRIC: value})
        for _ in range(3):  # iterations until the next line
            hook(trainer, TensorDict())
        if trainer.stop_reason is not None:
            assert trainer.complete
            return number
    return None


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("condition", "values", "expected"),
    [
        ({"at_least": 5}, [4, 4.9, 5, 4], 3),
        ({"at_least": 5}, [4, None, NAN, -INF, 4], None),
        ({"at_least": 5}, [INF], 1),
        ({"at_most": -5}, [-4, INF, -5], 3),
        ({"at_most": -5}, [-4, NAN, 9], None),
        ({"patience": 2}, [1, 2, 2, 2], 4),
        ({"patience": 2}, [1, 0, 2, 0, 3, 0], None),
        ({"patience": 1}, [1, None, None, 2, None, 1], 6),
        ({"patience": 2}, [1, NAN, NAN, 5], 3),
        ({"patience": 2}, [NAN, 1, 0, 2], None),
        ({"patience": 2, "at_most": -5}, [3, 2, 1, 0, -1], None),
        ({"patience": 2, "at_most": -5}, [3, 4, 5, 0], 3),
        ({"patience": 3, "at_least": 9}, [1, 0, 9], 3),
    ],
)
def test_a_condition_ends_the_run(
    condition: dict[str, Any], values: list[float | None], expected: int | None
) -> None:
    assert ends_at(values, **condition) == expected


@pytest.mark.parametrize(
    ("condition", "values", "reason"),
    [
        ({"at_least": 475}, [480.25], "eval/episode_return=480.25 is at least 475"),
        ({"at_most": -1}, [-1.5], "eval/episode_return=-1.5 is at most -1"),
        ({"patience": 2}, [3, 1, 2], "eval/episode_return got no better than 3 in 2 lines"),
    ],
)
def test_the_reason_names_what_was_reached(
    condition: dict[str, Any], values: list[float], reason: str
) -> None:
    hook, lines = early_stop(**condition)
    trainer = stub()
    for value in values:
        lines.last_line = {METRIC: value}
        hook(trainer, TensorDict())
    assert trainer.stop_reason == hook.reason == reason


def after(values: list[float], **condition: Any) -> dict[str, Any]:
    """What a checkpoint holds behind lines with these values."""
    hook, lines = early_stop(**condition)
    for value in values:
        lines.last_line = {METRIC: value}
        hook(stub(), TensorDict())
    return json.loads(json.dumps(hook.state_dict()))


def test_patience_goes_on_over_a_resume() -> None:
    hook, lines = early_stop(patience=3)
    hook.load_state_dict(after([5, 1, 2], patience=3))
    trainer = stub()
    hook.resume(trainer)
    hook(trainer, TensorDict())  # no line yet
    assert trainer.stop_reason is None
    lines.last_line = {METRIC: 4}
    hook(trainer, TensorDict())
    assert trainer.stop_reason == "eval/episode_return got no better than 5 in 3 lines"


@pytest.mark.parametrize(
    ("condition", "over"),
    [({"at_least": 5}, True), ({"at_least": 6}, False), ({"patience": 2}, True)],
)
def test_a_resume_is_judged_by_the_present_condition(condition: dict[str, Any], over: bool) -> None:
    hook, _ = early_stop(**condition)
    hook.load_state_dict(after([7, 6, 5], at_least=100))
    trainer = stub()
    hook.resume(trainer)
    assert trainer.complete is over


def test_another_metric_starts_afresh() -> None:
    hook = EarlyStop(WriteMetrics([], 0), EarlyStopConfig(metric="train/kl", at_least=1))
    hook.load_state_dict(after([7], at_least=5))
    assert hook.reason is None


@pytest.mark.parametrize(
    ("line", "interrupted", "said"),
    [
        ({"frames": 1, "train/alpha": 2}, False, True),
        ({"frames": 1, METRIC: 2}, False, False),  # of the final evaluation
        ({"frames": 1}, True, False),
    ],
)
def test_a_metric_that_no_line_has_is_said_at_the_end(
    line: dict[str, float], interrupted: bool, said: bool, caplog: pytest.LogCaptureFixture
) -> None:
    hook, lines = early_stop(at_least=5)
    trainer = stub()
    trainer.interrupted = interrupted
    lines.last_line = line
    with caplog.at_level(logging.WARNING):
        hook.close(trainer)
    assert ("no line has eval/episode_return, the last one has frames" in caplog.text) is said


def test_it_ends_the_loop_before_its_next_iteration() -> None:
    trainer = make_trainer(total_frames=10)
    write = WriteMetrics([], interval=1)
    condition = EarlyStopConfig(metric="frames", at_least=4)

    def register(trainer: Any, write: WriteMetrics) -> None:
        stop = EarlyStop(write, condition)
        trainer.register_hook("setup", stop.resume)
        trainer.register_hook("post_steps", write)
        trainer.register_hook("post_steps", stop)
        trainer.register_hook("shutdown", stop.close)

    register(trainer, write)
    trainer.train()
    assert (trainer.frames, trainer.complete, trainer.finished) == (4, True, False)

    resumed = make_trainer(total_frames=10)
    register(resumed, WriteMetrics([], interval=1))
    resumed.load_state_dict(trainer.state_dict())
    resumed.train()
    assert (resumed.frames, resumed.stop_reason) == (4, "frames=4 is at least 4")

"""Numbers between two lines, and the wall clock."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
import torch
from support.states import assert_same

from trainers.metrics import STATISTICS, Metrics, Stopwatch
from trainers.saving import checkpoint


@pytest.mark.parametrize("kind", ["tensors", "numbers", "both"])
def test_statistics_are_those_of_all_values(kind: str) -> None:
    rng = np.random.default_rng(0)
    chunks = [rng.normal(3.0, 2.0, size) for size in (1, 5, 17)]
    metrics = Metrics()
    for index, chunk in enumerate(chunks):
        if kind == "tensors" or (kind == "both" and index == 1):
            metrics.add("x", torch.from_numpy(chunk).reshape(1, -1), STATISTICS)
        else:
            for value in chunk:
                metrics.add("x", float(value), STATISTICS)
    values = np.concatenate(chunks)
    assert metrics.flush() == pytest.approx(
        {"x": values.mean(), "x_min": values.min(), "x_max": values.max(), "x_std": values.std()}
    )


def test_only_the_statistics_asked_for_are_written() -> None:
    metrics = Metrics()
    metrics.add("x", torch.tensor([1, 2]), ("max",))
    metrics.add("y", torch.tensor([True, False]))
    assert metrics.flush() == {"x_max": 2.0, "y": 0.5}


def test_sums_do_not_lose_small_numbers() -> None:
    metrics = Metrics()
    metrics.add("x", torch.full((), 1e8))
    for _ in range(1_000):
        metrics.add("x", torch.ones(()))
        metrics.add_scalars({"y": torch.full((), 16_777_217.0 if _ else 1.0)})
    line = metrics.flush()
    assert line["x"] == (1e8 + 1_000) / 1_001
    assert line["y"] == (1 + 999 * float(torch.tensor(16_777_217.0))) / 1_000


def test_scalars_are_averaged_by_name_over_different_sets() -> None:
    metrics = Metrics()
    metrics.add_scalars({"critic": torch.tensor(1.0)})
    metrics.add_scalars({"critic": torch.tensor([2.0]), "actor": torch.tensor(10.0)})
    metrics.add_scalars({"critic": torch.tensor(6.0), "actor": torch.tensor(20.0)})
    metrics.add_scalars({})
    assert metrics.flush() == {"critic": 3.0, "actor": 15.0}


@pytest.mark.parametrize("value", [np.float32(2.5), np.array(2.5), torch.tensor(2.5), 2.5])
def test_the_latest_value_is_a_number_whatever_it_came_as(value: Any) -> None:
    metrics = Metrics()
    metrics.set("x", 1)
    metrics.set("x", value)
    assert json.dumps(metrics.flush()) == '{"x": 2.5}'


def test_the_latest_value_is_what_it_was_when_it_was_set() -> None:
    metrics, value = Metrics(), torch.ones(())
    metrics.set("x", value)
    value.fill_(2.0)
    assert metrics.flush() == {"x": 1.0}


@pytest.mark.parametrize("statistics", [("mean",), STATISTICS])
def test_of_no_values_there_is_nothing_to_tell(statistics: tuple[str, ...]) -> None:
    metrics = Metrics()
    metrics.add("x", torch.zeros(0, 1), statistics)
    assert metrics.flush() == {}
    metrics.add("x", torch.zeros(0, 1), statistics)
    metrics.add("x", torch.ones(2, 1), statistics)
    assert metrics.flush()["x"] == 1.0


def test_values_are_taken_as_they_are_now() -> None:
    value = torch.ones((), requires_grad=True)
    metrics = Metrics()
    metrics.add("x", value * 1)
    metrics.add_scalars({"y": value})
    with torch.no_grad():
        value.fill_(5.0)
    assert metrics.flush() == {"x": 1.0, "y": 1.0}


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.bfloat16, torch.float64])
def test_values_of_any_type_are_added_in_float64(dtype: torch.dtype) -> None:
    metrics = Metrics()
    values = torch.tensor([0, 1, 1, 1]).to(dtype)
    metrics.add("x", values)
    values.zero_()
    assert metrics.flush() == {"x": 0.75}


def test_what_waits_to_be_summed_up_is_bounded_and_part_of_the_state() -> None:
    straight, resumed = Metrics(), Metrics()
    for step in range(1_000):
        value = torch.randn(30, generator=torch.Generator().manual_seed(step))
        for metrics in (straight, resumed):
            metrics.add("x", value, STATISTICS)
        state = resumed.state_dict()
        assert len(state["windows"]["x"]["waiting"]) < 5_000
        resumed = Metrics()
        resumed.load_state_dict(state)
    assert straight.flush() == resumed.flush()


def test_a_flush_starts_the_windows_anew() -> None:
    metrics = Metrics()
    metrics.line_due = True
    metrics.add("x", 1.0)
    metrics.set("lr", 0.1)
    metrics.set("lr", 0.2)
    assert metrics.flush() == {"x": 1.0, "lr": 0.2}
    assert metrics.flush() == {}
    assert not metrics.line_due


def test_open_windows_survive_a_checkpoint(tmp_path) -> None:
    def filled() -> Metrics:
        metrics = Metrics()
        metrics.line_due = True
        metrics.set("lr", 0.1)
        metrics.add("x", torch.tensor([1.0, 5.0]), STATISTICS)
        metrics.add("y", 3.0)
        metrics.add_scalars({"a": torch.tensor(1.0), "b": torch.tensor(2.0)})
        return metrics

    checkpoint.save(tmp_path / "c", filled().state_dict())
    restored = Metrics()
    restored.add("stale", 1.0)
    restored.load_state_dict(checkpoint.load(tmp_path / "c"))
    assert_same(restored.state_dict(), filled().state_dict())
    for metrics in (expected := filled(), restored):
        metrics.add("x", torch.tensor([-2.0]))
        metrics.add("y", 4.0)
        metrics.add_scalars({"a": torch.tensor(3.0), "b": torch.tensor(4.0)})
    assert restored.flush() == expected.flush()


def test_the_stopwatch_leaves_out_what_is_paused() -> None:
    watch = Stopwatch()
    time.sleep(0.02)
    assert watch.seconds == 0.0
    with watch.running():
        time.sleep(0.02)
        with watch.paused():
            time.sleep(0.05)
    assert watch.seconds >= 0.07
    assert watch.seconds - watch.training_seconds >= 0.05
    assert watch.training_seconds >= 0.02
    stopped = watch.seconds
    time.sleep(0.01)
    assert watch.seconds == stopped


def test_the_stopwatch_sums_over_resumes() -> None:
    watch = Stopwatch()
    with watch.running():
        time.sleep(0.01)
        watch.load_state_dict({"seconds": 100.0, "paused_seconds": 40.0})
        time.sleep(0.01)
    assert 100.01 <= watch.seconds < 101
    assert watch.training_seconds == watch.seconds - 40
    assert watch.state_dict() == {"seconds": watch.seconds, "paused_seconds": 40.0}

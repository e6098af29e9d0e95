"""The parts of the benchmark that measure nothing: numbers, the table, the command line."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "benchmark.py"


@pytest.fixture(scope="module")
def benchmark() -> Any:
    spec = importlib.util.spec_from_file_location("benchmark_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def _marks(*rows: tuple[int, int, float]) -> list[dict[str, float]]:
    return [{"frames": f, "updates": u, "seconds": s} for f, u, s in rows]


def test_speed_is_of_the_marks_after_settling(benchmark: ModuleType) -> None:
    marks = _marks((0, 0, 100.0), (1_000, 0, 130.0), (1_500, 700, 132.0), (3_000, 900, 135.0))
    assert benchmark.speed(marks, after=1_000) == pytest.approx(2_000 / 5)
    assert benchmark.speed(marks, after=1_400) == pytest.approx(1_500 / 3)
    assert benchmark.speed(marks, after=1_000, unit="updates") == pytest.approx(900 / 5)


@pytest.mark.parametrize("after", [3_000, 3_001])
def test_speed_needs_two_marks(benchmark: ModuleType, after: int) -> None:
    marks = _marks((0, 0, 100.0), (3_000, 0, 130.0))
    with pytest.raises(benchmark.MeasurementError, match=f"from frame {after} on"):
        benchmark.speed(marks, after=after)


def test_time_to_pass_is_that_of_the_first_evaluation_that_does(benchmark: ModuleType) -> None:
    marks: list[dict[str, float]] = [
        {"seconds": 10.0},
        {"seconds": 20.0, "return": 3_999.0},
        {"seconds": 35.0, "return": 4_000.0},
        {"seconds": 50.0, "return": 4_500.0},
    ]
    assert benchmark.time_to_pass(marks, 4_000.0) == 25.0
    assert benchmark.time_to_pass(marks, 5_000.0) == math.inf


def test_a_ratio_says_how_many_times_as_good_we_are(benchmark: ModuleType) -> None:
    assert benchmark.advantage("rate", 300.0, 100.0) == 3.0
    assert benchmark.advantage("time", 300.0, 600.0) == 2.0
    assert benchmark.advantage("time", math.inf, 600.0) == 0.0
    assert benchmark.advantage("excess", 4.5, 3.0) == 1.5


@pytest.mark.parametrize(
    ("kind", "figure", "must", "goal", "expected"),
    [
        ("rate", 1.3, 1.05, 1.2, "goal"),
        ("rate", 1.05, 1.05, 1.2, "must"),
        ("rate", 1.04, 1.05, 1.2, "MISSED"),
        ("rate", 9.0, 3.0, None, "must"),
        ("excess", 0.9, 2.0, 1.0, "goal"),
        ("excess", 1.1, 2.0, 1.0, "must"),
        ("excess", 2.1, 2.0, 1.0, "MISSED"),
        ("time", 1.9, None, 2.0, "not the goal"),
    ],
)
def test_verdicts(
    benchmark: ModuleType,
    kind: str,
    figure: float,
    must: float | None,
    goal: float | None,
    expected: str,
) -> None:
    assert benchmark.verdict(kind, figure, benchmark.Limit(must, goal)) == expected


def test_the_bound_of_updates_is_by_the_higher_peak(benchmark: ModuleType) -> None:
    samples = {
        ("matmul_256", "bare"): [58.16, 116.32],
        ("matmul_2048", "bare"): [116.32, 58.16],
        ("updates", "ours"): [150.0, 150.0],
    }
    benchmark.add_bound(samples)
    assert samples["updates", "bound"] == pytest.approx([200.0, 200.0])


def test_the_table_has_medians_spreads_ratios_and_limits(benchmark: ModuleType) -> None:
    samples = {
        ("startup", "ours"): [4.0],
        ("startup", "import"): [3.25],
        ("sac", "ours"): [190.0, 210.0, 200.0],
        ("sac", "sbx"): [160.0, 100.0, 161.0],
        ("sac", "torchrl"): [80.0],
    }
    lines = benchmark.table(samples).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    sac = "| SAC, one environment"
    assert lines[2:] == [
        f"{sac} | ours | 200 frames/s | 190 - 210 | 3 |  |  |  |  |",
        f"{sac} | sbx | 160 frames/s | 100 - 161 | 3 | 1.25x | 1.05x | 1.20x | goal |",
        f"{sac} | torchrl | 80 frames/s | 80 - 80 | 1 | 2.50x | 3.00x |  | MISSED |",
        "| start-up | ours | 4 s | 4 - 4 | 1 |  |  |  |  |",
        "| start-up | import | 3.25 s | 3.25 - 3.25 | 1 | +0.75 s | +2.00 s | +1.00 s | goal |",
    ]


def test_every_limit_is_of_a_row(benchmark: ModuleType) -> None:
    assert {row for row, _ in benchmark.LIMITS} <= set(benchmark.ROWS)


def test_results_are_kept_under_their_date(benchmark: ModuleType, tmp_path: Path) -> None:
    about = {
        "date": "2026-01-02 03:04",
        "commit": "abc1234",
        "cpu": "A CPU",
        "cores": 4,
        "threads": 2,
        "repeats": 1,
        "load": 0.0,
        "versions": {"torch": "2.13.0", "sbx": {"jax": "0.10.2"}},
    }
    path = benchmark.keep({("sac", "ours"): [200.0]}, about, tmp_path)
    assert path == tmp_path / "2026-01-02-0304-cpu.md"
    text = path.read_text()
    for shown in (
        "abc1234",
        "A CPU",
        "2 of 4 cores",
        "torch 2.13.0",
        "sbx (jax 0.10.2)",
        "| ours |",
    ):
        assert shown in text
    content = json.loads(path.with_suffix(".json").read_text())
    assert content["values"] == {"sac": {"ours": [200.0]}}
    assert content["settings"]["sac"]["batch_size"] == 256


def test_all_contestants_of_a_row_are_told_the_same(benchmark: ModuleType) -> None:
    for group in ("sac", "ppo1", "ppo8"):
        told = []
        for job in benchmark.jobs([group], benchmark.QUICK, seed=1):
            settings = json.loads(job.command[-1])
            assert settings.pop("jax") == (job.who == "sbx")
            told.append(settings)
        assert len(told) >= 3
        assert all(settings == told[0] for settings in told)


def test_every_program_is_there(benchmark: ModuleType) -> None:
    for job in benchmark.jobs(benchmark.GROUPS, benchmark.Sizes(), seed=0):
        assert job.command[1] == "-c" or Path(job.command[1]).is_file()


def test_the_last_line_of_a_program_becomes_a_value(benchmark: ModuleType) -> None:
    command = [sys.executable, "-c", "print('noise'); print('[1, 2]')"]
    job = benchmark.Job("us", command, lambda line, _: {"sac": json.loads(line)[1]})
    assert benchmark.run(job, {}) == {("sac", "us"): 2}


@pytest.mark.parametrize(
    ("program", "expected"),
    [("raise SystemExit('it broke')", "exit code 1: it broke"), ("print('?')", "not understood")],
)
def test_a_program_that_fails_is_an_error(
    benchmark: ModuleType, program: str, expected: str
) -> None:
    command = [sys.executable, "-c", program]
    job = benchmark.Job("us", command, lambda line, _: {"sac": json.loads(line)})
    with pytest.raises(benchmark.MeasurementError, match=expected):
        benchmark.run(job, {})


def test_groups_come_in_their_own_order_and_learning_only_if_asked(benchmark: ModuleType) -> None:
    assert benchmark.parse(["--only", "ppo8,sac"]).only == ("sac", "ppo8")
    assert "learning" not in benchmark.parse([]).only
    assert benchmark.parse(["--only", "learning"]).only == ("learning",)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--only", "sac,pppo"], "got 'pppo', expected any of sac, ppo1"),
        (["--only", ""], "got '', expected any of sac"),
        (["--repeats", "0"], "got '0', expected a whole number from 1 on"),
        (["--threads", "two"], "got 'two', expected a whole number from 1 on"),
        (["--threads", "100000"], "got 100000, this machine has"),
        (["--frames", "3"], "unrecognized arguments: --frames"),
    ],
)
def test_wrong_arguments_are_named(
    benchmark: ModuleType, capsys: pytest.CaptureFixture[str], argv: list[str], expected: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        benchmark.parse(argv)
    assert stopped.value.code == 2
    assert expected in capsys.readouterr().err

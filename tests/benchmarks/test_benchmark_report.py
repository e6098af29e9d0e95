"""The tables of the benchmark, and the files they are kept in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.figures import MoreThan
from benchmarks.report import growth_table, keep, report, table
from benchmarks.rows import LIMITS, ROWS, Growth

ABOUT: dict[str, Any] = {
    "date": "2026-01-02 03:04",
    "commit": "abc1234",
    "cpu": "A CPU",
    "cores": 4,
    "threads": 2,
    "repeats": 1,
    "load": 0.0,
    "versions": {"torch": "2.13.0", "sbx": {"jax": "0.10.2"}},
    "skipped": ["collection with EnvPool: it is not there"],
}
SAMPLES = {
    ("startup", "ours"): [4.0],
    ("startup", "import"): [3.25],
    ("uniform_by_stored", "1000000"): [151.0],
    ("updates_by_batch", "4096"): [20.0, 30.0, 25.0],
    ("updates_by_batch", "256"): [210.0, 200.0, 190.0],
    ("uniform_by_stored", "10000"): [100.0],
    ("sac", "ours"): [190.0, 210.0, 200.0],
    ("sac", "sbx"): [160.0, 100.0, 161.0],
    ("sac", "torchrl"): [80.0],
}


def test_the_table_has_medians_spreads_ratios_and_limits() -> None:
    lines = table(SAMPLES).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    sac = "| SAC, one environment"
    assert lines[2:] == [
        f"{sac} | ours | 200 frames/s | 190 - 210 | 3 |  |  |  |  |",
        f"{sac} | sbx | 160 frames/s | 100 - 161 | 3 | 1.24x | 1.05x | 1.20x | goal |",
        f"{sac} | torchrl | 80 frames/s | 80 - 80 | 1 | 2.50x | 3.00x |  | MISSED |",
        "| start-up | ours | 4 s | 4 - 4 | 1 |  |  |  |  |",
        "| start-up | import | 3.25 s | 3.25 - 3.25 | 1 | +0.75 s | +2.00 s | +1.00 s | goal |",
    ]


def test_what_grows_has_a_table_of_its_own() -> None:
    lines = growth_table(SAMPLES).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    updates, uniform = (ROWS[name].title for name in ("updates_by_batch", "uniform_by_stored"))
    assert lines[2:] == [
        f"| {updates} | 256 | 200 updates/s | 190 - 210 | 3 | 1.00x |  |  |",
        f"| {updates} | 4,096 | 25 updates/s | 20 - 30 | 3 | 0.13x |  |  |",
        f"| {uniform} | 10,000 | 100 µs | 100 - 100 | 1 | 1.00x |  |  |",
        f"| {uniform} | 1,000,000 | 151 µs | 151 - 151 | 1 | 1.51x | 1.50x | MISSED |",
    ]


def test_what_grows_is_measured_against_its_limit_at_its_largest() -> None:
    row = "uniform_by_stored"
    samples = {(row, "10000"): [100.0], (row, "100000"): [160.0], (row, "1000000"): [150.0]}
    reached = [line.split(" | ")[-2:] for line in growth_table(samples).splitlines()[2:]]
    assert reached == [["", " |"], ["", " |"], ["1.50x", "must |"]]


def test_a_table_of_nothing_is_left_out() -> None:
    assert "to the first" not in report({("sac", "ours"): [1.0]}, ABOUT)
    assert "ours to it" not in report({("uniform_by_stored", "10000"): [1.0]}, ABOUT)


def test_every_limit_is_of_a_row_that_does_not_grow() -> None:
    for row, _ in LIMITS:
        assert not isinstance(ROWS[row], Growth)


def test_results_are_kept_under_their_date(tmp_path: Path) -> None:
    path = keep(SAMPLES, ABOUT, tmp_path)
    assert path == tmp_path / "2026-01-02-0304-cpu.md"
    text = path.read_text()
    for shown in (
        "abc1234",
        "A CPU",
        "2 of 4 cores",
        "torch 2.13.0",
        "sbx (jax 0.10.2)",
        "Not measured: collection with EnvPool: it is not there.",
        "| ours |",
        "| 4,096 |",
    ):
        assert shown in text
    content = json.loads(path.with_suffix(".json").read_text())
    assert content["values"]["sac"]["ours"] == [190.0, 210.0, 200.0]
    assert content["values"]["updates_by_batch"] == {"4096": [20, 30, 25], "256": [210, 200, 190]}
    assert content["settings"]["sac"]["batch_size"] == 256


def test_what_was_not_waited_for_is_shown_as_such(tmp_path: Path) -> None:
    samples = {
        ("learning", "ours"): [200.0, 210.0, 190.0],
        ("learning", "sbx"): [MoreThan(800.0), 500.0, 600.0],
        ("learning", "sb3"): [MoreThan(800.0), MoreThan(840.0), 600.0],
    }
    lines = [line.split(" | ", 2)[2] for line in table(samples).splitlines()[2:]]
    assert lines == [
        "200 s | 190 - 210 | 3 |  |  |  |  |",
        "600 s | 500 - > 800 | 3 | 3.16x | 1.00x |  | must |",
        "> 800 s | 600 - > 840 | 3 | > 4.00x |  | 2.00x | goal |",
    ]
    path = keep(samples, ABOUT, tmp_path).with_suffix(".json")
    assert json.loads(path.read_text())["values"]["learning"]["sb3"] == ["> 800", "> 840", 600.0]

"""Numbers of the benchmark: from marks to ratios and verdicts."""

from __future__ import annotations

import pytest

from benchmarks.figures import (
    MeasurementError,
    MoreThan,
    add_bound,
    add_references,
    advantage,
    median,
    number,
    speed,
    spread,
    time_to_pass,
    typical_advantage,
    verdict,
)
from benchmarks.rows import Limit


def _marks(*rows: tuple[int, int, float]) -> list[dict[str, float]]:
    return [{"frames": f, "updates": u, "seconds": s} for f, u, s in rows]


def test_speed_is_of_the_marks_after_settling() -> None:
    marks = _marks((0, 0, 100.0), (1_000, 0, 130.0), (1_500, 700, 132.0), (3_000, 900, 135.0))
    assert speed(marks, after=1_000) == pytest.approx(2_000 / 5)
    assert speed(marks, after=1_400) == pytest.approx(1_500 / 3)
    assert speed(marks, after=1_000, unit="updates") == pytest.approx(900 / 5)


@pytest.mark.parametrize("after", [3_000, 3_001])
def test_speed_needs_two_marks(after: int) -> None:
    marks = _marks((0, 0, 100.0), (3_000, 0, 130.0))
    with pytest.raises(MeasurementError, match=f"from frame {after} on"):
        speed(marks, after=after)


def test_time_to_pass_is_that_of_the_first_evaluation_that_does() -> None:
    marks: list[dict[str, float]] = [
        {"seconds": 10.0},
        {"seconds": 20.0, "return": 3_999.0},
        {"seconds": 35.0, "return": 4_000.0},
        {"seconds": 50.0, "return": 4_500.0},
    ]
    assert time_to_pass(marks, 4_000.0) == 25.0
    never = time_to_pass(marks, 5_000.0)
    assert isinstance(never, MoreThan)
    assert never == 40.0


def test_a_ratio_says_how_many_times_as_good_we_are() -> None:
    assert advantage("rate", 300.0, 100.0) == 3.0
    assert advantage("time", 300.0, 600.0) == 2.0
    assert advantage("time", MoreThan(300.0), 600.0) == 0.0
    assert advantage("excess", 4.5, 3.0) == 1.5


def test_rounds_are_compared_one_by_one() -> None:
    ours, theirs = [100.0, 60.0, 30.0], [50.0, 40.0, 10.0]  # on a machine that gets slower
    assert typical_advantage("rate", ours, theirs) == 2.0
    assert typical_advantage("rate", ours, theirs[:2]) == 60.0 / 45.0  # a round failed


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
    kind: str, figure: float, must: float | None, goal: float | None, expected: str
) -> None:
    assert verdict(kind, figure, Limit(must, goal)) == expected


def censored(*values: float) -> list[float]:
    """Those below 0 were not waited for any longer than that."""
    return [MoreThan(-value) if value < 0 else value for value in values]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([100, 300, 200], "200"),
        ([100, -400, 200], "200"),
        ([100, -150, 200], "200"),  # it may have taken longer than 200
        ([100, -400, -500], "> 400"),
        ([-700, -400, -500], "> 500"),
        ([100, -400], "> 250"),
        ([100, 200, 300, -400], "250"),
    ],
)
def test_a_median_needs_half_of_the_values(values: list[float], expected: str) -> None:
    assert number(median(censored(*values))) == expected


def test_ends_that_are_not_known() -> None:
    assert list(map(number, spread([3.0, 1.0, 2.0]))) == ["1", "3"]
    assert list(map(number, spread(censored(3, -1, 2)))) == ["> 1", "> 3"]


def test_a_ratio_to_a_time_that_was_not_waited_for_is_a_bound() -> None:
    figure = advantage("time", 200.0, MoreThan(800.0))
    assert isinstance(figure, MoreThan)
    assert figure == 4.0
    assert verdict("time", figure, Limit(1.0)) == "must"
    assert verdict("time", figure, Limit(None, 2.0)) == "goal"
    assert verdict("time", MoreThan(1.5), Limit(None, 2.0)) == "not known"
    assert verdict("time", MoreThan(0.5), Limit(1.0)) == "not known"
    assert verdict("time", advantage("time", MoreThan(9.0), 6.0), Limit(1.0)) == "MISSED"


def test_the_bound_of_updates_is_by_the_higher_peak() -> None:
    samples = {
        ("matmul_256", "bare"): [58.16, 116.32],
        ("matmul_2048", "bare"): [116.32, 58.16],
        ("updates", "ours"): [150.0, 150.0],
    }
    add_bound(samples)
    assert samples["updates", "bound"] == pytest.approx([200.0, 200.0])


def test_figures_of_others_stand_beside_ours_only() -> None:
    samples = {("updates_gpu", "ours"): [3_000.0, 5_000.0], ("sac", "ours"): [1.0]}
    add_references(samples)
    assert samples.pop(("updates_gpu", "4,000")) == [4_000.0, 4_000.0]
    assert samples.keys() == {("updates_gpu", "ours"), ("sac", "ours")}

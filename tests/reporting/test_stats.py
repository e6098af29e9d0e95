"""The statistics equal what comes out by hand, and by trying every resample there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import pytest

from trainers.reporting.stats import (
    estimate,
    improvement,
    interval,
    iqm,
    pooled_iqm,
    profile,
)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([7.0], 7.0),
        ([1.0, 5.0], 3.0),
        ([9.0, 0.0, 3.0], 4.0),  # a quarter of three is no whole score
        ([100.0, 2.0, -50.0, 4.0], 3.0),  # 2 and 4
        ([5.0, 1.0, 2.0, 3.0, 100.0], 10 / 3),  # 2, 3 and 5
        ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 60.0], 3.0),  # 1 to 5
        ([8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], 4.5),  # 3 to 6
    ],
)
def test_the_interquartile_mean_by_hand(scores: list[float], expected: float) -> None:
    assert iqm(np.array(scores)) == pytest.approx(expected)


def test_the_interquartile_mean_of_every_column() -> None:
    columns = np.array([[1.0, 40.0], [2.0, 10.0], [3.0, 20.0], [9.0, 30.0]])
    assert iqm(columns).tolist() == [2.5, 25.0]
    assert iqm(columns.T, axis=1).tolist() == [2.5, 25.0]


def test_tasks_are_pooled() -> None:
    strata = [np.array([0.0, 4.0]), np.array([1.0, 2.0])]
    assert estimate(strata, pooled_iqm) == 1.5  # 0 and 4 are left out


def test_tasks_weigh_the_same_however_many_runs_they_have() -> None:
    one, other = np.array([0.0, 4.0]), np.array([1.0, 2.0, 5.0])
    # Of five runs one may be left out at either end: of the whole a fifth, 0.2. A run of the first
    # weighs 1/4, one of the second 1/6: of the lowest 0.05 is left, of the second highest 0.2167.
    expected = (0.05 * 0 + (1 + 2) / 6 + (0.25 - (0.2 - 1 / 6)) * 4) / 0.6
    assert estimate([one, other], pooled_iqm) == pytest.approx(expected)
    assert estimate([other, one], pooled_iqm) == pytest.approx(expected)
    each_twice = [np.repeat(one, 6), np.repeat(other, 4)]
    assert estimate(each_twice, pooled_iqm) == iqm(np.concatenate(each_twice))
    low, high = interval([one, other], pooled_iqm)
    assert 0.0 <= low < expected < high <= 5.0


def every_resample(strata: Sequence[np.ndarray], statistic: Callable[..., float]) -> np.ndarray:
    """The statistic of each resample there is, all equally likely."""
    drawn = [list(product(stratum, repeat=len(stratum))) for stratum in strata]
    return np.sort([statistic(*parts) for parts in product(*drawn)])


def assert_is_interval(ends: tuple[np.ndarray, np.ndarray], values: np.ndarray) -> None:
    """The ends are the quantiles of all resamples, as near as so many drawn ones can come."""
    for end, level in zip(ends, (0.025, 0.975), strict=True):
        near = [level - 0.006, level + 0.006]  # four standard deviations of a share of 10,000
        low, high = np.quantile(values, near, method="inverted_cdf")
        assert low - 1e-9 <= end <= high + 1e-9


def trimmed_mean(*parts: Sequence[float]) -> float:
    """The interquartile mean in other words."""
    scores = sorted(score for part in parts for score in part)
    quarter = len(scores) // 4
    middle = scores[quarter : len(scores) - quarter]
    return sum(middle) / len(middle)


@pytest.mark.parametrize(
    "scores", [[0.0, 1.0, 10.0], [3.0, 1.0, 8.0, -2.0], [5.0, 6.0, 7.5, 1.0, 30.0]]
)
def test_the_interval_is_that_of_all_resamples(scores: list[float]) -> None:
    stratum = np.array(scores)
    values = every_resample([stratum], trimmed_mean)
    assert_is_interval(interval([stratum], pooled_iqm), values)


def test_the_interval_by_hand() -> None:
    # Of two runs 1/4 of the resamples are 0, 0 and 1/4 are 1, 1: far more than the tails.
    low, high = interval([np.array([0.0, 1.0])], pooled_iqm)
    assert (low, high) == (0.0, 1.0)
    # Of twelve 0 and a 1 a resample needs four 1 for one of its seven middle scores to be a 1, and
    # has them with a probability of 0.014: less than the tail.
    low, high = interval([np.array([0.0] * 12 + [1.0])], pooled_iqm)
    assert (low, high) == (0.0, 0.0)


def test_runs_are_resampled_within_their_task() -> None:
    # Between tasks there would be means from 0 to 10.
    strata = [np.zeros(3), np.full(3, 10.0)]
    assert interval(strata, pooled_iqm) == (5.0, 5.0)
    strata = [np.array([0.0, 1.0, 3.0]), np.array([5.0, 7.0, 12.0])]
    assert_is_interval(interval(strata, pooled_iqm), every_resample(strata, trimmed_mean))


def test_the_same_runs_have_the_same_interval() -> None:
    scores = [np.array([1.0, 2.0, 4.0, 8.0])]
    assert interval(scores, pooled_iqm) == interval(scores, pooled_iqm)


def test_every_point_of_a_curve_has_its_interval() -> None:
    curves = np.array([[0.0, 5.0], [1.0, 5.0], [10.0, 5.0]])
    low, high = interval([curves], pooled_iqm)
    assert low.shape == high.shape == (2,)
    alone = interval([curves[:, 0]], pooled_iqm)
    assert (low[0], high[0]) == alone
    assert low[1] == high[1] == 5.0


def test_a_profile_by_hand() -> None:
    strata = [np.array([0.0, 0.5, 1.0, 1.0]), np.array([0.2, 0.5])]
    shares = estimate(strata, profile(np.array([0.0, 0.3, 0.5, 1.0])))
    # Above 0: 3 of 4 and 2 of 2; above 0.3: 3 of 4 and 1 of 2; above 0.5: 2 of 4 and none.
    assert shares.tolist() == [0.875, 0.625, 0.25, 0.0]


def test_the_interval_of_a_profile_is_that_of_all_resamples() -> None:
    strata = [np.array([0.1, 0.6, 0.9]), np.array([0.2, 0.7])]

    def above_half(one: Sequence[float], two: Sequence[float]) -> float:
        return (sum(x > 0.5 for x in one) / 3 + sum(x > 0.5 for x in two) / 2) / 2

    low, high = interval(strata, profile(np.array([0.5])))
    assert_is_interval((low[0], high[0]), every_resample(strata, above_half))


def test_the_probability_of_improvement_by_hand() -> None:
    x, y = np.array([3.0, 1.0]), np.array([2.0, 1.0, 0.0])
    # 3 beats all of three; 1 beats one, is the same as one: 4.5 of 6 pairs.
    assert estimate([x, y], improvement) == pytest.approx(4.5 / 6)
    assert estimate([y, x], improvement) == pytest.approx(1.5 / 6)
    worse = [np.array([0.0]), np.array([1.0, 2.0])]
    assert estimate([x, y, *worse], improvement) == pytest.approx(4.5 / 12)


def test_the_interval_of_an_improvement_is_that_of_all_resamples() -> None:
    x, y = np.array([1.0, 3.0, 5.0]), np.array([2.0, 3.0, 0.0])

    def beats(xs: Sequence[float], ys: Sequence[float]) -> float:
        return sum((a > b) + (a == b) / 2 for a in xs for b in ys) / 9

    assert_is_interval(interval([x, y], improvement), every_resample([x, y], beats))

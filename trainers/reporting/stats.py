"""Statistics over few runs, as Agarwal et al. (2021) recommend and their library rliable has them.

A stratum is what was measured of one task, an array whose first dimension counts the runs. Runs are
resampled within their stratum, never across strata.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

CONFIDENCE = 0.95
SEED = 0  # of the resampling: the same runs make the same report

Statistic = Callable[[Sequence[np.ndarray]], np.ndarray]
"""Of strata ``[samples, runs, ...]``, one for each task; ``[samples, ...]``."""


def iqm(scores: np.ndarray, axis: int = 0) -> np.ndarray:
    """Interquartile mean: the mean without the lowest and the highest quarter.

    A quarter is rounded down to whole scores, as rliable does: of three nothing is left out, of
    four to seven one at either end.
    """
    count = scores.shape[axis]
    ordered = np.sort(scores, axis)
    middle = np.arange(count // 4, count - count // 4)
    return np.take(ordered, middle, axis).mean(axis)


def pooled_iqm(strata: Sequence[np.ndarray]) -> np.ndarray:
    """Interquartile mean of all runs of all tasks, every task weighing the same.

    Where all tasks have as many runs as each other it is the ``iqm`` of them all. Where they have
    not, a run weighs less the more its task has, and the outer ones may be left out in part.
    """
    scores = np.concatenate(strata, axis=1)
    count = scores.shape[1]
    if len({stratum.shape[1] for stratum in strata}) == 1:
        return iqm(scores, axis=1)
    weights = np.concatenate([np.full(s.shape[1], 1 / s.shape[1]) for s in strata]) / len(strata)
    order = np.argsort(scores, axis=1)
    upto = np.cumsum(weights[order], axis=1)
    cut = count // 4 / count
    kept = np.diff(upto.clip(cut, 1 - cut), axis=1, prepend=cut)
    return (np.take_along_axis(scores, order, axis=1) * kept).sum(axis=1) / (1 - 2 * cut)


def profile(thresholds: np.ndarray) -> Statistic:
    """Share of runs whose score is above each threshold, every task weighing the same."""

    def above(strata: Sequence[np.ndarray]) -> np.ndarray:
        shares = [(scores[..., None] > thresholds).mean(axis=1) for scores in strata]
        return np.mean(shares, axis=0)

    return above


def improvement(strata: Sequence[np.ndarray]) -> np.ndarray:
    """Probability that a run of X beats one of Y, a tie counting half; the mean over tasks.

    Args:
        strata: X's and Y's runs on the first task, X's and Y's on the second, and so on.
    """
    shares = []
    for x, y in zip(strata[::2], strata[1::2], strict=True):
        difference = x[:, :, None] - y[:, None, :]
        shares.append((np.sign(difference).mean(axis=(1, 2)) + 1) / 2)
    return np.mean(shares, axis=0)


def estimate(strata: Sequence[np.ndarray], statistic: Statistic) -> np.ndarray:
    """The statistic of the runs as they are."""
    return statistic([stratum[None] for stratum in strata])[0]


def interval(
    strata: Sequence[np.ndarray], statistic: Statistic, resamples: int = 10_000
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the statistic's 95 % interval by a stratified percentile bootstrap.

    With one run in every stratum there is nothing to resample, and the interval has no width.
    """
    random = np.random.default_rng(SEED)
    drawn = [
        stratum[random.integers(len(stratum), size=(resamples, len(stratum)))] for stratum in strata
    ]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(statistic(drawn), [tail, 1 - tail], axis=0)
    return low, high

"""Tell a sudden worsening of days soon, with a stated chance of a false alarm.

A cumulative sum (Page, Biometrika 1954) of how much worse than usual each of the newest days was. Its limit is not
taken from a table, which would want normal days: days are drawn from the usual ones, and the limit is what their sums
pass as seldom as was asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from configs.monitoring import Change

_DRAWS = 2000
_LEAST_DAYS = 14
Days = NDArray[np.float64]


@dataclass(frozen=True)
class SuddenChange:
    """The sum of what the newest days were worse than usual, in standard deviations, and its limit."""

    sum: float
    limit: float
    days: int
    """The newest, over which the sum grew to what it is."""

    @property
    def is_alarm(self) -> bool:
        """Whether the days have changed."""
        return self.sum > self.limit


def sudden_change(
    usual: Sequence[float], newest: Sequence[float], limits: Change, *, is_lower_better: bool, seed: int
) -> SuddenChange | None:
    """Whether the `newest` days, in order, are suddenly worse than the `usual` ones; None with too few of these."""
    if len(usual) < _LEAST_DAYS or not len(newest):
        return None
    before, now = np.asarray(usual, np.float64), np.asarray(newest, np.float64)
    mean, deviation = before.mean(), before.std(ddof=1)
    if deviation <= 1e-12 * max(abs(mean), 1.0):
        return None  # days that never differ tell nothing of how much they may
    sign = 1.0 if is_lower_better else -1.0
    excess = sign * (now - mean) / deviation - limits.allowance
    sums = _sums(excess[np.newaxis])[0]
    since = np.flatnonzero(sums[:-1] <= 0)
    limit = _limit(sign * (before - mean) / deviation, len(now), limits, seed)
    return SuddenChange(float(sums[-1]), limit, len(now) - (int(since[-1]) + 1 if len(since) else 0))


def _limit(usual: Days, window: int, limits: Change, seed: int) -> float:
    """What the greatest sum of `quiet_days` days, each over the `window` up to it, passes with the stated chance."""
    rng = np.random.default_rng(seed)
    drawn = rng.choice(usual, size=(_DRAWS, limits.quiet_days + window - 1)) - limits.allowance
    # The sum over the days up to t is the total up to t, less the least of the totals before.
    totals = np.cumsum(np.pad(drawn, ((0, 0), (1, 0))), axis=1)
    ends = totals[:, window:]
    sums = np.max([ends - totals[:, window - back : -back or None] for back in range(window + 1)], axis=0)
    return float(np.quantile(sums.max(axis=1), 1 - limits.false_alarm_probability))


def _sums(excess: Days) -> Days:
    """Along each row: the sum so far, which never falls below zero."""
    found = np.empty_like(excess)
    total = np.zeros(len(excess))
    for day in range(excess.shape[1]):
        total = np.maximum(total + excess[:, day], 0.0)
        found[:, day] = total
    return found

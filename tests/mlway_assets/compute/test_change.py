"""Sudden changes are told soon, and quiet days hardly ever are."""

import numpy as np

from configs.monitoring import Change
from mlway_assets.compute.change import sudden_change

USUAL = np.random.default_rng(3).gamma(4, 0.05, 42)


def test_a_storm_is_told_within_days() -> None:
    quiet, storm = list(USUAL[:10]), [0.6, 0.55, 0.7]
    found = sudden_change(USUAL, [*quiet, *storm], Change(), is_lower_better=True, seed=1)
    assert found is not None
    assert found.is_alarm
    assert found.days <= 6
    better = sudden_change(-USUAL, [-value for value in quiet + storm], Change(), is_lower_better=True, seed=1)
    assert better is not None
    assert not better.is_alarm, "days that are better are no alarm"


def test_shuffled_days_alarm_within_sixty_days_about_as_seldom_as_stated() -> None:
    dice = np.random.default_rng(5)
    alarms = 0
    for _ in range(20):
        days = dice.choice(USUAL, 60 + 13)
        alarms += any(
            found is not None and found.is_alarm
            for end in range(14, len(days) + 1, 1)
            if (found := sudden_change(USUAL, days[end - 14 : end], Change(), is_lower_better=True, seed=end % 3))
        )
    assert alarms / 20 <= 0.15, "stated: 0.05"


def test_too_few_days_or_days_without_spread_tell_nothing() -> None:
    assert sudden_change(USUAL[:13], [1.0], Change(), is_lower_better=True, seed=1) is None
    assert sudden_change([0.5] * 30, [1.0], Change(), is_lower_better=True, seed=1) is None
    assert sudden_change(USUAL, [], Change(), is_lower_better=True, seed=1) is None

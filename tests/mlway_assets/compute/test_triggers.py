"""What opens a training, and what keeps trainings apart."""

from datetime import UTC, datetime, timedelta

import pytest

from configs.retraining import Retraining, Trigger
from configs.splits import MovingParts, Split
from mlway_assets.compute.triggers import Asked, Last, opens_training

NOW = datetime(2013, 10, 20, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("trigger", "asked", "opens"),
    [
        ("schedule", Asked(NOW, 0), True),
        ("schedule", Asked(NOW - 2 * DAY, 0), False),
        ("new_data", Asked(NOW, 25_100), True),
        ("new_data", Asked(NOW, 25_099), False),
        ("quality", Asked(NOW, 0, ("quality",)), True),
        ("quality", Asked(NOW, 0, ("input_drift",)), False),
    ],
)
def test_each_trigger_opens_a_training_by_what_it_looks_at(trigger: Trigger, asked: Asked, opens: bool) -> None:
    last = Last((NOW - 8 * DAY,), 100)
    found = opens_training(Retraining(triggers=(trigger,)), asked, last)
    assert bool(found.reasons) == opens
    assert found.held_back is None


def test_cool_down_and_budget_hold_triggers_back_and_say_so() -> None:
    retraining = Retraining(triggers=("quality",), cooldown=3 * DAY, weekly_budget=2)
    asked = Asked(NOW, 0, ("quality",))
    assert "cool-down" in str(opens_training(retraining, asked, Last((NOW - 2 * DAY,), 0)).held_back)
    assert "budget" in str(opens_training(retraining, asked, Last((NOW - 6 * DAY, NOW - 3 * DAY), 0)).held_back)
    assert opens_training(retraining, asked, Last((NOW - 7 * DAY, NOW - 3 * DAY), 0)).reasons == ("quality",)


def test_before_the_first_training_nothing_opens_one() -> None:
    assert opens_training(Retraining(triggers=("schedule", "new_data")), Asked(NOW, 10**6), Last((), 0)).reasons == ()


def test_the_parts_move_only_once_the_clock_is_past_the_dates() -> None:
    dates = [datetime(2013, month, 1, tzinfo=UTC) for month in (9, 10, 11)]
    split = Split(
        train_until=dates[0],
        validate_until=dates[1],
        test_until=dates[2],
        moving=MovingParts(train_days=90, validate_days=14, test_days=28),
    )
    assert split.at(dates[1]) == split
    moved = split.at(NOW)
    assert (moved.test_until, moved.validate_until, moved.train_until) == (NOW, NOW - 28 * DAY, NOW - 42 * DAY)
    assert (moved.train_from, moved.judged, moved.needs_known_labels("test")) == (NOW - 132 * DAY, "test", True)
    assert not split.needs_known_labels("test")

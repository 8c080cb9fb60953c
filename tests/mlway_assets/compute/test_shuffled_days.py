"""Days in another order: whole days move, and nothing else changes."""

from datetime import UTC, datetime, timedelta

import polars as pl

from configs.load import load_project
from feature_repo.windows import EVENT_TIMESTAMP
from mlway_assets.compute.population import LABEL, LABEL_KNOWN_AT
from mlway_assets.compute.shuffled_days import shuffled_days

PRODUCT = load_project().products["flight_delay"]
START = datetime(2013, 6, 1, tzinfo=UTC)


def rows() -> pl.DataFrame:
    """Three flights on each of twenty days, two of which land after midnight; `feature` tells them apart."""
    numbers = range(60)
    departures = [START + timedelta(days=number // 3, hours=20 + number % 3) for number in numbers]
    request = {name: ["x"] * 60 for name, kind in PRODUCT.population.request.items() if kind == "string"}
    return pl.DataFrame(
        {
            EVENT_TIMESTAMP: [moment - timedelta(hours=2) for moment in departures],
            LABEL: [number % 2 for number in numbers],
            LABEL_KNOWN_AT: [moment + timedelta(hours=5) for moment in departures],
            **request,
            "flight": list(numbers),
            "scheduled_departure": departures,
            "feature": list(numbers),
        }
    )


def test_a_day_moves_whole_and_each_to_a_place_of_its_own() -> None:
    before = rows()
    after = shuffled_days(before, PRODUCT, seed=1)
    both = before.join(after, on="feature", suffix="_after")
    moved = {
        name: (both[f"{name}_after"] - both[name]) for name in (EVENT_TIMESTAMP, LABEL_KNOWN_AT, "scheduled_departure")
    }
    [by] = {tuple(series) for series in moved.values()}
    assert all(each % timedelta(days=1) == timedelta(0) for each in by)
    assert [set(by[start : start + 3]) for start in range(0, 60, 3)] == [{by[start]} for start in range(0, 60, 3)]
    assert both[LABEL].equals(both[f"{LABEL}_after"], check_names=False)
    days = [set(frame["scheduled_departure"].dt.date()) for frame in (before, after)]
    assert days[0] == days[1]


def test_the_order_depends_on_the_seed_alone() -> None:
    assert shuffled_days(rows(), PRODUCT, seed=1).equals(shuffled_days(rows(), PRODUCT, seed=1))
    assert not shuffled_days(rows(), PRODUCT, seed=1).equals(shuffled_days(rows(), PRODUCT, seed=2))
    assert shuffled_days(rows(), PRODUCT, seed=1)[EVENT_TIMESTAMP].is_sorted()

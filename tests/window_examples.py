"""A group of every aggregation, and rows for it: what the tests of windows share."""

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import strategies as st

from configs.features import WindowedFeatures

START = datetime(2013, 3, 9, 22, tzinfo=UTC)
SCHEMA = {"key": pl.String, "known_at": pl.Datetime("us", "UTC"), "value": pl.Int64, "price": pl.Float64}
FUNCTIONS = ["sum", "mean", "standard_deviation", "minimum", "maximum", "first", "last", "distinct_count"]
GROUP = WindowedFeatures.model_validate(
    {
        "name": "group",
        "kind": "windowed",
        "description": "Everything at once.",
        "owner": "team:tests",
        "entity": "key",
        "join_keys": {"key": "string"},
        "table": "events",
        "known_at": "known_at",
        "windows": ["1h", "3h"],
        "aggregations": {name: {"function": name, "of": "value"} for name in FUNCTIONS}
        | {
            "count": {"function": "count"},
            "rate": {"function": "rate", "of": "value > 1"},
            "upper_quartile": {"function": "quantile", "of": "value", "quantile": 0.75},
            "positive": {"function": "count", "where": "value > 0"},
            "positive_sum": {"function": "sum", "of": "value", "where": "value > 0"},
            "cost": {"function": "sum", "of": "price", "decimals": 2},
            "cost_mean": {"function": "mean", "of": "price", "decimals": 2},
            "cheapest": {"function": "minimum", "of": "price", "value_type": "float64"},
            "sign": {
                "function": "last",
                "of": "CASE WHEN value < 0 THEN 'minus' ELSE 'plus' END",
                "where": "value <> 0",
                "value_type": "string",
            },
        },
    }
)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        # Quarters of an hour and the microsecond on either side: ties and window edges are common, not rare.
        st.integers(0, 40).flatmap(lambda n: st.sampled_from([n * 900_000_000 + d for d in (-1, 0, 1)])),
        st.one_of(st.none(), st.integers(-3, 5)),
    ),
    max_size=25,
)


def table_of(events: list[tuple[str, int, int | None]]) -> pl.DataFrame:
    rows = [
        (key, START + timedelta(microseconds=at), value, None if value is None else value / 10)
        for key, at, value in events
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")

"""Statistics of features: what they say, and over which rows."""

from datetime import UTC, datetime, timedelta

import polars as pl

from mlway_assets.compute.feature_statistics import FeatureStatistics, feature_statistics

NOW = datetime(2013, 10, 1, tzinfo=UTC)
TYPES = {"delay": "float64", "flights": "int64", "late": "boolean", "carrier": "string"}


def values() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "tailnum": ["A", "A", "B", "B", "C"],
            "event_timestamp": [NOW - timedelta(hours=hour) for hour in (4, 3, 2, 0, -1)],
            "delay": [1.0, 2.0, float("nan"), 6.0, 1000.0],
            "flights": [1, 2, 3, 4, 1000],
            "late": [True, False, None, True, False],
            "carrier": ["UA", "B6", "UA", "B6", "ZZ"],
        },
        schema_overrides={"event_timestamp": pl.Datetime("us", "UTC")},
    )


def test_rows_of_later_than_now_do_not_count() -> None:
    found = feature_statistics(values(), TYPES, NOW, ["tailnum"])
    assert (found.rows, found.entities, found.as_of) == (4, 2, NOW)
    assert found.features["flights"].maximum == 4


def test_numbers_have_moments_and_quantiles_and_a_nan_counts_as_missing() -> None:
    delay = feature_statistics(values(), TYPES, NOW).features["delay"]
    assert (delay.null_share, delay.mean, delay.minimum, delay.p50, delay.maximum) == (0.25, 3.0, 1.0, 2.0, 6.0)
    assert delay.standard_deviation is not None
    assert round(delay.standard_deviation, 6) == 2.645751


def test_booleans_have_the_share_that_is_true() -> None:
    late = feature_statistics(values(), TYPES, NOW).features["late"]
    assert (late.null_share, late.mean, late.maximum) == (0.25, 2 / 3, None)


def test_texts_have_the_most_frequent_and_of_several_the_first() -> None:
    carrier = feature_statistics(values(), TYPES, NOW).features["carrier"]
    assert (carrier.distinct, carrier.most_frequent, carrier.most_frequent_share) == (2, "B6", 0.5)


def test_of_no_rows_and_of_nulls_alone_nothing_is_said() -> None:
    nothing = feature_statistics(values().clear(), TYPES, NOW, ["tailnum"])
    assert (nothing.rows, nothing.entities) == (0, 0)
    assert nothing.features["delay"] == FeatureStatistics()
    nulls = values().with_columns(pl.lit(None, pl.String).alias("carrier"), pl.lit(None, pl.Float64).alias("delay"))
    found = feature_statistics(nulls, TYPES, NOW).features
    assert found["delay"] == FeatureStatistics(null_share=1.0)
    assert found["carrier"] == FeatureStatistics(null_share=1.0, distinct=0)


def test_they_survive_the_way_through_json() -> None:
    found = feature_statistics(values(), TYPES, NOW, ["tailnum"])
    assert type(found).model_validate_json(found.model_dump_json()) == found

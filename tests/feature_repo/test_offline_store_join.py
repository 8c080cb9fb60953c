"""PolarsOfflineStore against the join read literally: whole, in slices, on Ray, from sources of any kind."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from join_examples import CASES, ENTITIES, VALUES, Case, Rows, Value, literal, tables
from offline_support import features_of, open_test_store, view_name

from feature_repo.store import _import_feast

_import_feast()
from feast import FeatureStore  # noqa: E402


@pytest.mark.parametrize("case", CASES, ids=str)
@settings(max_examples=170, deadline=None)
@given(entities=ENTITIES, values=VALUES, sliced=st.booleans())
def test_the_store_gives_every_row_the_newest_value_that_was_known(
    case: Case, entities: Rows, values: list[Value], sliced: bool, stores: list[FeatureStore], folder: Path
) -> None:
    left, right = tables(entities, values)
    right.write_parquet(folder / "values.parquet")
    asked = left.rename({"moment": "event_timestamp"})
    job = stores[sliced].get_historical_features(entity_df=asked, features=[f"{view_name(case)}:value"])
    joined = job.to_polars()
    assert joined.columns == [*asked.columns, "value"]
    assert joined.select(asked.columns).equals(asked)
    assert joined["value"].to_list() == literal(left, right, case)


@pytest.fixture
def fifty(folder: Path) -> tuple[pl.DataFrame, list[str]]:
    """Fifty entity rows in no order of time, and the features that are asked for them."""
    values: list[Value] = [(("a", number % 2 + 1), number * 1_000_000, 0, number) for number in range(50)]
    left, right = tables([(("a", number % 2 + 1), (number * 37 % 50) * 1_000_000) for number in range(50)], values)
    right.write_parquet(folder / "values.parquet")
    features = [f"{view_name(case)}:value" for case in CASES if case.keys == ("name", "number")]
    return left.rename({"moment": "event_timestamp"}), features[:1]


def test_a_join_goes_to_a_file_in_pieces_and_in_order(
    stores: list[FeatureStore], folder: Path, fifty: tuple[pl.DataFrame, list[str]]
) -> None:
    asked, features = fifty
    whole, sliced = (store.get_historical_features(entity_df=asked, features=features) for store in stores)
    in_pieces = open_test_store(folder, slice_rows=7).get_historical_features(entity_df=asked, features=features)
    for job in (sliced, in_pieces):
        assert job.sink_parquet(folder / "joined.parquet") == 50
        assert pl.read_parquet(folder / "joined.parquet").equals(whole.to_polars())


def test_slices_on_ray_give_the_same(
    stores: list[FeatureStore], folder: Path, fifty: tuple[pl.DataFrame, list[str]]
) -> None:
    import ray

    on_ray = open_test_store(folder, slice_rows=10, execution="ray", ray_address="local")
    try:
        assert features_of(on_ray, *fifty).equals(features_of(stores[0], *fifty))
    finally:
        ray.shutdown()


@pytest.mark.parametrize("moment", [pl.Datetime("ns", "UTC"), pl.Datetime("us"), pl.Datetime("us", "America/New_York")])
def test_a_source_may_have_timestamps_of_any_unit_and_zone(
    moment: pl.DataType, stores: list[FeatureStore], folder: Path
) -> None:
    left, right = tables([(("a", 1), 5)], [(("a", 1), 5, 0, 7)])
    changed = pl.col("of").cast(moment) if moment.time_zone else pl.col("of").dt.replace_time_zone(None)
    right.with_columns(changed).write_parquet(folder / "values.parquet")
    asked = left.rename({"moment": "event_timestamp"})
    assert features_of(stores[0], asked, [f"{view_name(CASES[0])}:value"])["value"].to_list() == [7]

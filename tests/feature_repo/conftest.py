"""Feast stores over PolarsOfflineStore: one of the oracle's cases, one of a small shop."""

import inspect
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from join_examples import CASES, START, tables
from offline_support import FIELD_OF, NAME, NUMBER, case_view, open_test_store

from feature_repo.store import _import_feast

_import_feast()
from feast import FeatureService, FeatureStore, FeatureView, Field, FileSource, OnDemandFeatureView  # noqa: E402
from feast.feature_logging import LoggingConfig  # noqa: E402
from feast.infra.offline_stores.file_source import FileLoggingDestination  # noqa: E402
from feast.types import Float64  # noqa: E402

from feature_repo.delta_source import DeltaSource  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("feast")


@pytest.fixture(scope="module")
def stores(folder: Path) -> list[FeatureStore]:
    """One that joins in one piece, one that joins in slices of three rows."""
    tables([], [(("a", 1), 0, 0, 1)])[1].write_parquet(folder / "values.parquet")
    store = open_test_store(folder)
    store.apply([NAME, NUMBER, *(case_view(case, folder) for case in CASES)])
    return [store, open_test_store(folder, slice_rows=3, memory_megabytes=0)]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Two views of one entity in Delta and Parquet, one of them with a field mapping; an on-demand view; a service."""
    folder = tmp_path_factory.mktemp("shop")
    rows = pl.DataFrame(
        {
            "customer": ["a", "b", "b"],
            "of": [START, START + timedelta(hours=1), START + timedelta(hours=2)],
            "spent": [1.5, 2.5, 3.5],
        }
    ).cast({"of": pl.Datetime("us", "UTC")})
    rows.write_delta(folder / "orders")
    rows.rename({"customer": "name", "spent": "visits"}).write_parquet(folder / "visits.parquet")
    orders = FeatureView(
        name="orders",
        entities=[NAME],
        ttl=timedelta(0),
        schema=[FIELD_OF["name"], Field(name="spent", dtype=Float64)],
        source=DeltaSource(
            name="orders_rows", path=str(folder / "orders"), timestamp_field="of", field_mapping={"customer": "name"}
        ),
    )
    visits = FeatureView(
        name="visits",
        entities=[NAME],
        ttl=timedelta(0),
        schema=[FIELD_OF["name"], Field(name="visits", dtype=Float64)],
        source=FileSource(name="visits_rows", path=str(folder / "visits.parquet"), timestamp_field="of"),
    )
    per_visit = OnDemandFeatureView(
        name="per_visit",
        sources=[orders[["spent"]], visits[["visits"]]],
        schema=[Field(name="ratio", dtype=Float64)],
        mode="python",
        udf=spent_per_visit,
        udf_string=inspect.getsource(spent_per_visit),
    )
    logs = LoggingConfig(destination=FileLoggingDestination(path=str(folder / "logs")))
    service = FeatureService(name="service", features=[orders, visits, per_visit], logging_config=logs)
    store = open_test_store(folder)
    store.apply([NAME, orders, visits, per_visit, service])
    return store


def spent_per_visit(inputs):  # type: ignore[no-untyped-def]
    pairs = zip(inputs["spent"], inputs["visits"], strict=True)
    return {"ratio": [None if a is None or b is None else a / b for a, b in pairs]}

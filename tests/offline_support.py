"""A Feast store over PolarsOfflineStore, and what is declared in it: shared by the tests of the offline store."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
from join_examples import START, Case

from feature_repo.store import _import_feast

_import_feast()
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig  # noqa: E402
from feast.types import Int64, String  # noqa: E402
from feast.value_type import ValueType  # noqa: E402

NAME = Entity(name="name", join_keys=["name"], value_type=ValueType.STRING)
NUMBER = Entity(name="number", join_keys=["number"], value_type=ValueType.INT64)
ENTITY_OF = {"name": NAME, "number": NUMBER}
FIELD_OF = {"name": Field(name="name", dtype=String), "number": Field(name="number", dtype=Int64)}
MOMENT = {"event_timestamp": pl.Datetime("us", "UTC")}
FOUR_ROWS = pl.DataFrame(
    {
        "name": ["b", "a", None, "b"],
        "event_timestamp": [START + timedelta(hours=hours) for hours in (3, 1, 2, 3)],
    },
    schema={"name": pl.String, "event_timestamp": pl.Datetime("us", "UTC")},
)


def open_test_store(folder: Path, **offline: Any) -> FeatureStore:
    return FeatureStore(
        config=RepoConfig(
            project="test",
            provider="local",
            registry={"registry_type": "sql", "path": f"sqlite:///{folder}/registry.db"},
            offline_store={"type": "feature_repo.offline_store.PolarsOfflineStore", **offline},
            online_store={"type": "sqlite", "path": str(folder / "online.db")},
            entity_key_serialization_version=3,
            coerce_tz_aware=False,
            repo_path=folder,
        )
    )


def view_name(case: Case) -> str:
    return f"view_{'_'.join(case.keys) or 'none'}_{int(case.has_created)}_{int(case.ttl.total_seconds())}"


def case_view(case: Case, folder: Path) -> FeatureView:
    return FeatureView(
        name=view_name(case),
        entities=[ENTITY_OF[key] for key in case.keys],
        ttl=case.ttl,
        schema=[*(FIELD_OF[key] for key in case.keys), Field(name="value", dtype=Int64)],
        source=FileSource(
            name=f"{view_name(case)}_rows",
            path=str(folder / "values.parquet"),
            timestamp_field="of",
            created_timestamp_column="written" if case.has_created else "",
        ),
    )


def features_of(store: FeatureStore, given: Any, features: Any, **options: Any) -> pl.DataFrame:
    return store.get_historical_features(entity_df=given, features=features, **options).to_polars()

"""The curated version behind a group's values."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from configs.environments import Lake as LakeAddress
from configs.features import StaticFeatures
from mlway_assets.feature_tables import LAYER, MissingRecordError, curated_table_of, write_group
from mlway_assets.lake import Lake

NOW = datetime(2024, 3, 8, tzinfo=UTC)
GROUP = StaticFeatures.model_validate({
    "name": "shop", "kind": "static", "description": "A shop.", "owner": "team:shop", "entity": "shop",
    "join_keys": {"id": "int64"}, "table": "shops", "features": {"size": {"expression": "size", "type": "int64"}},
})  # fmt: skip


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Values made from version 0 of the shops, then from version 1; version 2 of the shops has not been used yet."""
    lake = Lake(LakeAddress(uri=str(tmp_path)))
    for size in (10, 20, 30):
        lake.replace("curated", "shops", pl.DataFrame({"id": [1], "size": [size]}))
        if size < 30:
            write_group(GROUP, lake, NOW)
    return lake


def size(lake: Lake, version: int | None = None) -> int:
    found: int = curated_table_of(GROUP, lake, version).collect()["size"].item()
    return found


def test_values_lead_to_the_curated_version_that_they_were_computed_from(lake: Lake) -> None:
    assert (size(lake), size(lake, 0), size(lake, 1)) == (20, 10, 20)


def test_versions_that_compute_nothing_lead_to_what_was_computed_before(lake: Lake) -> None:
    for _ in range(10):
        lake.replace(LAYER, GROUP.name, lake.scan(LAYER, GROUP.name).collect())
    assert lake.version(LAYER, GROUP.name) == 11
    assert size(lake) == size(lake, 9) == 20


def test_values_that_do_not_say_what_they_were_made_from_are_named(tmp_path: Path) -> None:
    lake = Lake(LakeAddress(uri=str(tmp_path)))
    lake.replace(LAYER, GROUP.name, pl.DataFrame({"id": [1], "size": [1]}))
    with pytest.raises(MissingRecordError, match=r"(?s)features/shop says which version of curated/shops.*materialize"):
        curated_table_of(GROUP, lake)

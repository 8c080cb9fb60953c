"""Where a retrieval is kept: in an object store, a location that is taken, or may be, is not overwritten."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
from servers import s3_server

from feature_repo.store import _import_feast
from feature_repo.table_sources import SourceError

_import_feast()
from feast import RepoConfig  # noqa: E402
from feast.data_format import DeltaFormat  # noqa: E402
from feast.errors import SavedDatasetLocationAlreadyExists  # noqa: E402
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage  # noqa: E402

from feature_repo.retrieval_job import PolarsRetrievalJob  # noqa: E402

KINDS = ["parquet", "delta"]
FIRST, SECOND = pl.DataFrame({"value": [1]}), pl.DataFrame({"value": [2]})


@dataclass(frozen=True)
class ObjectStore:
    """A bucket of an S3 server that can be told to ask who calls."""

    address: str
    folder: Path
    client: Any

    @property
    def options(self) -> dict[str, str]:
        """What reaches it, while it asks for no account."""
        keys = {"aws_access_key_id": "nobody", "aws_secret_access_key": "wrong"}
        return {"aws_endpoint_url": self.address, "aws_allow_http": "true", "aws_region": "us-east-1"} | keys

    def check_accounts(self, *, is_on: bool) -> None:
        """From the first request on, or never."""
        httpx.post(f"{self.address}/moto-api/reset-auth", content="0" if is_on else "inf").raise_for_status()

    def keep(self, frame: pl.DataFrame, kind: str, **options: Any) -> None:
        """Persist a frame at the one location of this kind."""
        offline = {"type": "feature_repo.offline_store.PolarsOfflineStore", "storage_options": self.options}
        registry = str(self.folder / "registry.db")
        config = RepoConfig(
            project="test", provider="local", registry=registry, offline_store=offline, repo_path=self.folder
        )
        file_format = {"file_format": DeltaFormat()} if kind == "delta" else {}
        storage = SavedDatasetFileStorage(path=self.path(kind), **file_format)
        PolarsRetrievalJob(config, lambda: frame).persist(storage, **options)

    def path(self, kind: str) -> str:
        return f"s3://kept/{kind}/set.{kind}"

    def kept(self, kind: str) -> pl.DataFrame:
        """What is at the location."""
        read = pl.read_parquet if kind == "parquet" else pl.read_delta
        return read(self.path(kind), storage_options=self.options)


@pytest.fixture(scope="module")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    import boto3

    with s3_server() as address:
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        client = boto3.client("s3", endpoint_url=address, region_name="us-east-1", **keys)
        client.create_bucket(Bucket="kept")
        yield ObjectStore(address, tmp_path_factory.mktemp("kept"), client)


@pytest.mark.parametrize("kind", KINDS)
def test_a_free_location_is_taken_once_unless_it_may_be_overwritten(kind: str, object_store: ObjectStore) -> None:
    object_store.keep(FIRST, kind, allow_overwrite=True)
    with pytest.raises(SavedDatasetLocationAlreadyExists):
        object_store.keep(SECOND, kind)
    assert object_store.kept(kind).equals(FIRST)
    object_store.keep(SECOND, kind, allow_overwrite=True)
    assert object_store.kept(kind).equals(SECOND)


@pytest.mark.parametrize("kind", KINDS)
def test_a_location_where_nothing_lies_is_free(kind: str, object_store: ObjectStore) -> None:
    for found in object_store.client.list_objects_v2(Bucket="kept", Prefix=f"{kind}/").get("Contents", []):
        object_store.client.delete_object(Bucket="kept", Key=found["Key"])
    object_store.keep(FIRST, kind)
    assert object_store.kept(kind).equals(FIRST)


@pytest.mark.parametrize("kind", KINDS)
def test_a_location_that_cannot_be_looked_at_is_not_taken_for_a_free_one(kind: str, object_store: ObjectStore) -> None:
    object_store.keep(FIRST, kind, allow_overwrite=True)
    object_store.check_accounts(is_on=True)
    try:
        with pytest.raises(SourceError, match=r"(?s)Whether s3://kept/.* is free cannot be told.*storage_options"):
            object_store.keep(SECOND, kind)
    finally:
        object_store.check_accounts(is_on=False)
    assert object_store.kept(kind).equals(FIRST)

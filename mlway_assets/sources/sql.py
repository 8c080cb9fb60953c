"""PostgreSQL and SQLite tables, read through their Arrow drivers.

The cursor column tells which days have changed rows; each such day is then read whole and replaced, so that a row
that was corrected is corrected in the lake too.
"""

import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import quote, unquote

import polars as pl
from adbc_driver_manager import Error as DatabaseError
from pyarrow import ArrowException

from configs.schema import ColumnType
from configs.secrets import resolve_secret
from configs.sources import EVENT_DAY, SqlSource, SqlTable
from mlway_assets.sources.reading import Changes, DaysRead, SourceError, conform

_POSTGRES_TYPES: dict[ColumnType, str] = {
    "string": "TEXT",
    "int64": "BIGINT",
    "float64": "DOUBLE PRECISION",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMPTZ",
}


class SqlReader:
    """Reads one table or view. SQLite keeps dates and timestamps as ISO 8601 text in UTC."""

    def __init__(self, source: SqlSource, table: SqlTable) -> None:
        self.table = table
        self.place = f"{source.name}:{table.table}"
        self._uri_secret = source.uri_secret
        self._quoted = ".".join(f'"{part}"' for part in table.table.split("."))

    def read_days(self, days: Sequence[date]) -> DaysRead:
        """The rows of these event days; a query that fails, fails for all of them."""
        day = self.table.event_day[0]
        bounds = (min(days).isoformat(), (max(days) + timedelta(days=1)).isoformat())
        where = f'"{day}" >= {self._parameter(1, "date")} AND "{day}" < {self._parameter(2, "date")}'
        try:
            frame = conform(self._query(f"{self._select()} WHERE {where}", bounds), self.table, self.place)
        except SourceError as error:
            return DaysRead(pl.DataFrame(), dict.fromkeys(days, error))
        return DaysRead(frame.filter(pl.col(EVENT_DAY).is_in(list(days))))

    def read_snapshot(self) -> pl.DataFrame:
        """All rows."""
        return conform(self._query(self._select(), ()), self.table, self.place)

    def changes(self, cursor: str | None) -> Changes:
        """Days that hold rows whose cursor column is above `cursor`; without a cursor column, everything once."""
        column = self.table.cursor_column
        if column is None:
            return self._changed_days("", (), "read once") if cursor is None else Changes((), False, cursor)
        newest = self._query(f'SELECT MAX("{column}") AS newest FROM {self._quoted}', ())["newest"][0]
        if newest is None:
            return Changes((), False, cursor or "")
        text = newest.isoformat() if isinstance(newest, date | datetime) else str(newest)
        if not cursor:
            return self._changed_days("", (), text)
        kind = self.table.columns[column]
        above = int(cursor) if kind == "int64" else cursor
        return self._changed_days(f' WHERE "{column}" > {self._parameter(1, kind)}', (above,), text)

    def _changed_days(self, where: str, parameters: tuple[Any, ...], cursor: str) -> Changes:
        if not self.table.is_partitioned:
            count = self._query(f"SELECT COUNT(*) AS rows FROM {self._quoted}{where}", parameters)["rows"][0]
            return Changes((), count > 0, cursor)
        column = self.table.event_day[0]
        day = f'CAST("{column}" AS DATE)' if self._is_postgres else f'substr("{column}", 1, 10)'
        days = self._query(f"SELECT DISTINCT {day} AS day FROM {self._quoted}{where}", parameters)["day"]
        try:
            changed = {day if isinstance(day, date) else date.fromisoformat(day) for day in days.drop_nulls()}
        except ValueError as error:
            raise SourceError(self.place, f"column {column!r} holds no day: {error}", "mend the rows.") from error
        return Changes(tuple(sorted(changed)), False, cursor)

    @property
    def _is_postgres(self) -> bool:
        return not resolve_secret(self._uri_secret).startswith("sqlite:///")

    def _parameter(self, number: int, kind: ColumnType) -> str:
        return f"CAST(${number} AS {_POSTGRES_TYPES[kind]})" if self._is_postgres else "?"

    def _select(self) -> str:
        columns = ", ".join(f'"{name}"' for name in self.table.columns)
        return f"SELECT {columns} FROM {self._quoted}"

    def _query(self, sql: str, parameters: tuple[Any, ...]) -> pl.DataFrame:
        uri = resolve_secret(self._uri_secret)
        try:
            if self._is_postgres:
                from adbc_driver_postgresql import dbapi as postgresql  # type: ignore[import-untyped]

                connection = postgresql.connect(uri)
            else:
                from adbc_driver_sqlite import dbapi as sqlite

                connection = sqlite.connect(f"file:{quote(uri.removeprefix('sqlite:///'))}?mode=ro")
            with connection, connection.cursor() as cursor:
                if self._is_postgres:
                    cursor.execute("SET TIME ZONE 'UTC'")
                else:  # the driver takes a column's type from its first batch, and fails when that held only nulls
                    cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": str(10**9)})
                cursor.execute(sql, parameters or None)
                return pl.DataFrame(pl.from_arrow(cursor.fetch_arrow_table()))
        except (DatabaseError, ArrowException, OSError) as error:  # the latter two from rows that fail on the way
            # The driver's message may repeat the address, which holds the password: say the secret's name instead.
            problem = _without_password(str(error).replace(uri, self._uri_secret), uri).splitlines()[0]
            raise SourceError(
                self.place, f"the query failed: {problem}", f"check {self._uri_secret} and `table`."
            ) from None


def _without_password(message: str, uri: str) -> str:
    # An unescaped @ or / makes the driver read a piece of the password as a host or a port, and say so.
    password = uri.partition("://")[2].rpartition("@")[0].partition(":")[2]
    pieces = {password, unquote(password), *re.split(r"[/:@?#\[\]]", password)} - {""}
    return re.sub("|".join(map(re.escape, sorted(pieces, key=len, reverse=True))) or r"(?!)", "***", message)

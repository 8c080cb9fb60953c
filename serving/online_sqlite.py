"""Read the embedded online store: all views of all rows in one statement, which sees one state of the file."""

import sqlite3
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from configs.features import TableFeatures
from feature_repo.online_layout import (
    SQLITE_KEY,
    SQLITE_TIMESTAMP,
    OnlineStoreError,
    OnlineStoreUnavailableError,
    epoch_microseconds,
    quoted,
    sqlite_table,
)
from serving.online_features import FeatureColumns
from serving.online_views import ViewColumns, ViewReader, assemble, entity_kinds, row_count

_WAIT_SECONDS = 5.0
_MOST_ROWS, _MOST_PARAMETERS = 512, 30_000
_MOST_VIEWS = 60
"""Of a statement: SQLite joins 64 tables."""


class SqliteOnlineFeatures:
    """The reader of the file at `path`. Each thread has a connection of its own, opened at its first read."""

    def __init__(self, path: str, groups: Sequence[TableFeatures]) -> None:
        self._path = path
        self._views = [ViewReader(group) for group in groups]
        self._kinds = entity_kinds(groups, self._views)
        self._placed = [(number, view) for number, kind in enumerate(self._kinds) for view in kind.views]
        self._most_rows = max(1, min(_MOST_ROWS, _MOST_PARAMETERS // max(1, len(self._kinds))))
        self._local = threading.local()
        self._statement = lru_cache(256)(self._build_statement)

    def read(self, entities: Mapping[str, Sequence[Any]], as_of: datetime) -> FeatureColumns:
        """The features of every row as of a moment; see OnlineFeatures."""
        count, moment = row_count(entities), epoch_microseconds(as_of)
        keys = list(zip(*(kind.keys.encode(entities) for kind in self._kinds), strict=True))
        columns: dict[str, ViewColumns] = {}
        for start in range(0, len(self._placed), _MOST_VIEWS):
            rows = self._rows(keys, start)
            found = list(zip(*rows, strict=True))
            place = 0
            for _, view in self._placed[start : start + _MOST_VIEWS]:
                end = place + 1 + len(view.features)
                moments, *messages = found[place:end] or [()] * (end - place)
                columns[view.name] = view.columns(moments, messages, moment)
                place = end
        return assemble(self._views, columns, count)

    def _rows(self, keys: Sequence[tuple[bytes | None, ...]], start: int) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = []
        for first in range(0, len(keys), self._most_rows):
            part = keys[first : first + self._most_rows]
            # Few statements serve any number of rows: SQLite keeps them compiled.
            size = min(self._most_rows, 1 << (len(part) - 1).bit_length())
            parameters = [key for row in part for key in row]
            parameters += [None] * ((size - len(part)) * len(self._kinds))
            rows += self._execute(self._statement(start, size), parameters)[: len(part)]
        return rows

    def _build_statement(self, start: int, size: int) -> str:
        """The moment and the values of these views for `size` rows of entity keys, one key of each kind."""
        columns, joins = [], []
        for number, (kind, view) in enumerate(self._placed[start : start + _MOST_VIEWS]):
            columns += [f"v{number}.{quoted(column)}" for column in (SQLITE_TIMESTAMP, *view.features)]
            joins.append(
                f"LEFT JOIN {sqlite_table(view.name)} AS v{number} ON v{number}.{SQLITE_KEY} = asked.column{kind + 2}"
            )
        marks = "".join(", ?" for _ in self._kinds)
        rows = ", ".join(f"({row}{marks})" for row in range(size))
        return f"SELECT {', '.join(columns)} FROM (VALUES {rows}) AS asked {' '.join(joins)} ORDER BY asked.column1"

    def _execute(self, statement: str, parameters: list[bytes | None]) -> list[tuple[Any, ...]]:
        try:
            connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                address = f"file:{self._path}?mode=ro"
                connection = sqlite3.connect(address, uri=True, timeout=_WAIT_SECONDS)
                self._local.connection = connection
            return connection.execute(statement, parameters).fetchall()
        except sqlite3.Error as error:
            self._local.connection = None
            is_busy = getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY")
            raise (OnlineStoreUnavailableError if is_busy else OnlineStoreError)(
                f"The online store {self._path} cannot be read: {error}.\nHint: run `mlway materialize`."
            ) from error

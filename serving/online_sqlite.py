"""Read the embedded online store: all views of all rows in one statement, which sees one state of the file."""

import sqlite3
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any

from configs.features import TableFeatures
from feature_repo.online_layout import (
    SQLITE_DEFINITION,
    SQLITE_TIMESTAMP,
    OnlineStoreError,
    OnlineStoreUnavailableError,
    epoch_microseconds,
    quoted,
    sqlite_columns,
    sqlite_table,
)
from serving.online_features import FeatureColumns
from serving.online_views import ViewColumns, ViewReader, assemble, row_count

_WAIT_SECONDS = 5.0
_CACHE_KIBIBYTES = 65_536
"""What a connection may keep of the file; SQLite's own 2 MB are read again and again."""
_MOST_ROWS, _MOST_PARAMETERS = 512, 30_000
_MOST_VIEWS = 60
"""Of a statement: SQLite joins 64 tables."""


_ORDER = list(range(_MOST_ROWS))
_BOOLEANS = {0: False, 1: True, None: None}


class SqliteOnlineFeatures:
    """The reader of the file at `path`. Each thread has a connection of its own, opened at its first read."""

    def __init__(self, path: str, groups: Sequence[TableFeatures]) -> None:
        self._path = path
        self._views = [ViewReader(group) for group in groups]
        self._keys = list(dict.fromkeys(key for group in groups for key in group.join_keys))
        self._most_rows = max(1, min(_MOST_ROWS, _MOST_PARAMETERS // max(1, len(self._keys))))
        self._local = threading.local()
        self._statement = lru_cache(256)(self._build_statement)

    def read(self, entities: Mapping[str, Sequence[Any]], as_of: datetime) -> FeatureColumns:
        """The features of every row as of a moment; see OnlineFeatures."""
        count, moment = row_count(entities), epoch_microseconds(as_of)
        keys = list(zip(*(entities[key] for key in self._keys), strict=True))
        columns: dict[str, ViewColumns] = {}
        for first in range(0, len(self._views), _MOST_VIEWS):
            found = list(zip(*self._rows(keys, first), strict=True))
            start = 1
            for view in self._views[first : first + _MOST_VIEWS]:
                end = start + 1 + len(view.features)
                moments, *values = found[start:end] or [()] * (end - start)
                columns[view.name] = view.columns(moments, _typed(view, values), moment)
                start = end
        return assemble(self._views, columns, count)

    def _rows(self, keys: Sequence[tuple[Any, ...]], first_view: int) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = []
        for first in range(0, len(keys), self._most_rows):
            part = keys[first : first + self._most_rows]
            size = _size(len(part), self._most_rows)
            parameters = list(chain.from_iterable(part))
            parameters += [None] * ((size - len(part)) * len(self._keys))
            found = self._execute(self._statement(first_view, size), parameters)
            if [row[0] for row in found] != _ORDER[:size]:
                found.sort(key=itemgetter(0))  # SQLite promises no order, and takes its time when it is asked to
            rows += found[: len(part)]
        return rows

    def _build_statement(self, first_view: int, size: int) -> str:
        """A row's number, and these views' moments and values, for `size` rows of join keys."""
        places = {key: f"asked.column{place}" for place, key in enumerate(self._keys, 2)}
        columns, joins = ["asked.column1"], []
        for number, view in enumerate(self._views[first_view : first_view + _MOST_VIEWS]):
            columns += [f"v{number}.{column}" for column in (SQLITE_TIMESTAMP, *sqlite_columns(view.stored))]
            same = " AND ".join(f"v{number}.{quoted(key)} = {places[key]}" for key in view.stored.join_keys)
            same += f" AND v{number}.{SQLITE_DEFINITION} = x'{view.stored.definition.hex()}'"
            joins.append(f"LEFT JOIN {sqlite_table(view.name)} AS v{number} ON {same}")
        marks = ", ?" * len(self._keys)
        rows = ", ".join(f"({row}{marks})" for row in range(size))
        return f"SELECT {', '.join(columns)} FROM (VALUES {rows}) AS asked {' '.join(joins)}"

    def _execute(self, statement: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
        try:
            connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                address = f"file:{self._path}?mode=ro"
                connection = sqlite3.connect(address, uri=True, timeout=_WAIT_SECONDS)
                connection.execute(f"PRAGMA cache_size=-{_CACHE_KIBIBYTES}")
                self._local.connection = connection
            return connection.execute(statement, parameters).fetchall()
        except (OverflowError, UnicodeError) as error:
            raise OnlineStoreError(
                f"A join key cannot be looked up: {error}.\nHint: convert it to the type that is declared."
            ) from error
        except sqlite3.Error as error:
            self._local.connection = None
            is_busy = getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY")
            raise (OnlineStoreUnavailableError if is_busy else OnlineStoreError)(
                f"The online store {self._path} cannot be read: {error}.\nHint: run `mlway materialize`."
            ) from error


def _typed(view: ViewReader, columns: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """SQLite has no booleans."""
    return [
        list(map(_BOOLEANS.__getitem__, column)) if kind == "boolean" else list(column)
        for column, kind in zip(columns, view.stored.features.values(), strict=True)
    ]


def _size(rows: int, most: int) -> int:
    """A few more rows than are asked for: so few statements serve every number that SQLite keeps them compiled."""
    step = max(1, 1 << (rows.bit_length() - 4)) if rows >= 16 else 1  # at most an eighth more
    return min(most, -(-rows // step) * step)

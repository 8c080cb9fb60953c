"""Read the embedded online store: all views of all rows in one statement, or a few that see one state of the file."""

import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any
from urllib.parse import quote

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
    wrong_join_key,
)
from serving.online_features import FeatureColumns
from serving.online_views import ViewColumns, ViewReader, assemble, row_count

_WAIT_SECONDS = 5.0
_CACHE_KIBIBYTES = 65_536
"""What a connection may keep of the file; SQLite's own 2 MB are read again and again."""
_MOST_ROWS, _MOST_PARAMETERS = 512, 30_000
_MOST_VIEWS, _MOST_COLUMNS = 60, 1_900
"""Of a statement: SQLite joins 64 tables, and gives 2,000 columns."""
_KEY_TYPES: Mapping[str, set[type]] = {"string": {str, type(None)}, "int64": {int, bool, type(None)}}
_ORDER = list(range(_MOST_ROWS))
_BOOLEANS = {0: False, 1: True, None: None}


class SqliteOnlineFeatures:
    """The reader of the file at `path`. Each thread has a connection of its own, opened at its first read."""

    def __init__(self, path: str, groups: Sequence[TableFeatures]) -> None:
        self._path = path
        self._address = f"file:{quote(path)}?mode=ro"
        self._views = [ViewReader(group) for group in groups]
        self._parts = list(_parts(self._views))
        self._keys = {key: kind for group in groups for key, kind in group.join_keys.items()}
        self._most_rows = max(1, min(_MOST_ROWS, _MOST_PARAMETERS // max(1, len(self._keys))))
        self._local = threading.local()
        self._statement = lru_cache(256)(self._build_statement)

    def read(self, entities: Mapping[str, Sequence[Any]], as_of: datetime) -> FeatureColumns:
        """The features of every row as of a moment; see OnlineFeatures."""
        self._check_types(entities)
        try:
            return self._read(self._connection(), entities, epoch_microseconds(as_of))
        except (OverflowError, UnicodeError) as error:
            raise wrong_join_key(self._keys, error) from error
        except sqlite3.Error as error:
            self._local.connection = None  # with whatever it had begun
            is_busy = getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY")
            raise (OnlineStoreUnavailableError if is_busy else OnlineStoreError)(
                f"The online store {self._path} cannot be read: {error}.\nHint: run `mlway materialize`."
            ) from error

    def _check_types(self, entities: Mapping[str, Sequence[Any]]) -> None:
        """SQLite would look for a number among texts, and find nothing."""
        for key, kind in self._keys.items():
            if strange := set(map(type, entities[key])) - _KEY_TYPES[kind]:
                raise wrong_join_key({key: kind}, ", ".join(sorted(each.__name__ for each in strange)))

    def _read(
        self, connection: sqlite3.Connection, entities: Mapping[str, Sequence[Any]], as_of: int
    ) -> FeatureColumns:
        keys = list(zip(*(entities[key] for key in self._keys), strict=True))
        columns: dict[str, ViewColumns] = {}
        # One statement sees one state of the file by itself.
        are_several = len(self._parts) > 1 or len(keys) > self._most_rows
        if are_several:
            connection.execute("BEGIN")
        for number, views in enumerate(self._parts):
            found = list(zip(*self._rows(connection, keys, number), strict=True))
            start = 1
            for view in views:
                end = start + 1 + len(view.features)
                moments, *values = found[start:end] or [()] * (end - start)
                columns[view.name] = view.columns(moments, _typed(view, values), as_of)
                start = end
        if are_several:
            connection.execute("COMMIT")
        return assemble(self._views, columns, row_count(entities))

    def _rows(
        self, connection: sqlite3.Connection, keys: Sequence[tuple[Any, ...]], number: int
    ) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = []
        for first in range(0, len(keys), self._most_rows):
            part = keys[first : first + self._most_rows]
            size = _size(len(part), self._most_rows)
            parameters = list(chain.from_iterable(part))
            parameters += [None] * ((size - len(part)) * len(self._keys))
            found = connection.execute(self._statement(number, size), parameters).fetchall()
            if [row[0] for row in found] != _ORDER[:size]:
                found.sort(key=itemgetter(0))  # SQLite promises no order, and takes its time when it is asked to
            rows += found[: len(part)]
        return rows

    def _build_statement(self, number: int, size: int) -> str:
        """A row's number, and the moments and values of a part's views, for `size` rows of join keys."""
        places = {key: f"asked.column{place}" for place, key in enumerate(self._keys, 2)}
        columns, joins = ["asked.column1"], []
        for place, view in enumerate(self._parts[number]):
            name = f"v{place}"
            columns += [f"{name}.{column}" for column in (SQLITE_TIMESTAMP, *sqlite_columns(view.stored))]
            same = [f"{name}.{quoted(key)} = {places[key]}" for key in view.stored.join_keys]
            same.append(f"{name}.{SQLITE_DEFINITION} = x'{view.stored.definition.hex()}'")
            joins.append(f"LEFT JOIN {sqlite_table(view.name)} AS {name} ON {' AND '.join(same)}")
        marks = ", ?" * len(self._keys)
        rows = ", ".join(f"({row}{marks})" for row in range(size))
        return f"SELECT {', '.join(columns)} FROM (VALUES {rows}) AS asked {' '.join(joins)}"

    def _connection(self) -> sqlite3.Connection:
        """This thread's connection to the file that is at the path now: another may have taken its place."""
        file = _file_at(self._path)
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None or file != self._local.file:
            connection = sqlite3.connect(self._address, uri=True, timeout=_WAIT_SECONDS, isolation_level=None)
            connection.execute(f"PRAGMA cache_size=-{_CACHE_KIBIBYTES}")
            self._local.connection, self._local.file = connection, file
        return connection


def _file_at(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - at every read, and twice as fast as Path.stat
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _parts(views: Sequence[ViewReader]) -> Iterator[list[ViewReader]]:
    """The views of each statement."""
    part: list[ViewReader] = []
    columns = 0
    for view in views:
        width = 1 + len(view.features)
        if part and (len(part) == _MOST_VIEWS or columns + width > _MOST_COLUMNS):
            yield part
            part, columns = [], 0
        part.append(view)
        columns += width
    if part:
        yield part


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

"""The embedded online store: one SQLite file with a typed table for each view, a row for each entity.

Feast's own layout has a row for each feature in Feast's encoding, which takes several times longer to write and to
read; feast_online_stores.py shows these tables to Feast.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import polars as pl

from feature_repo.online_layout import (
    NEVER,
    SQLITE_AS_OF,
    SQLITE_DEFINITION,
    SQLITE_TIMESTAMP,
    OnlineStoreError,
    OnlineStoreUnavailableError,
    OnlineView,
    quoted,
    sqlite_columns,
    sqlite_table,
)
from feature_repo.windows import EVENT_TIMESTAMP

_BATCH = 20_000
"""Rows of a transaction: a pusher never waits longer for a materialization than these take."""
_WAIT_SECONDS = 30.0
_KEY_TYPES = {"string": "TEXT", "int64": "INTEGER"}
_OUTDATED = (
    f"({SQLITE_DEFINITION} IS NOT ? OR ({SQLITE_AS_OF} IS NOT NULL AND {SQLITE_AS_OF} <= ?) OR {SQLITE_TIMESTAMP} < ?)"
)


class SqliteWriter:
    """Writes the file at `path`. Each call opens and closes a connection of its own."""

    def __init__(self, path: str) -> None:
        self._path = path

    def prepare(self, view: OnlineView) -> None:
        """Make the view's table; a feature that is new or changed its type gets a column."""
        Path(self._path).parent.mkdir(parents=True, exist_ok=True)
        with self._connection() as connection:
            # Readers then never wait for a writer, nor it for them. The file remembers it.
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("BEGIN IMMEDIATE")
            _create(connection, view)
            connection.execute("COMMIT")

    def drop(self, name: str) -> None:
        """Delete the view called `name` with its values."""
        with self._connection() as connection:
            connection.execute(f"DROP TABLE IF EXISTS {sqlite_table(name)}")

    def write(self, view: OnlineView, rows: pl.DataFrame, as_of: int = NEVER) -> int:
        """Store the rows, unless newer ones are stored; see OnlineWriter."""
        keys = sorted(view.join_keys)
        values = rows.select(
            *keys,
            EVENT_TIMESTAMP,
            pl.lit(view.definition).alias(SQLITE_DEFINITION),
            pl.lit(None if as_of == NEVER else as_of, pl.Int64).alias(SQLITE_AS_OF),
            *view.features,
        )
        # In the order of the tree that they go into; rows of one entity keep theirs.
        return self._execute(_upsert(view), values.sort(keys, maintain_order=True).rows())

    def prune(self, view: OnlineView, keep: pl.DataFrame, as_of: int, alive_since: int) -> int:
        """Delete what a full materialization did not find; see OnlineWriter."""
        keys = sorted(view.join_keys)
        kept = set(keep.select(keys).iter_rows())
        outdated = (view.definition, as_of, alive_since)
        table, columns = sqlite_table(view.name), [quoted(key) for key in keys]
        with self._connection() as connection:
            found = connection.execute(f"SELECT {', '.join(columns)} FROM {table} WHERE {_OUTDATED}", outdated)
            gone = [(*key, *outdated) for key in found if key not in kept]
        same = " AND ".join(f"{column} = ?" for column in columns)
        return self._execute(f"DELETE FROM {table} WHERE {same} AND {_OUTDATED}", gone)

    def _execute(self, statement: str, values: Sequence[tuple[object, ...]]) -> int:
        with self._connection() as connection:
            for start in range(0, len(values), _BATCH):
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(statement, values[start : start + _BATCH])
                connection.execute("COMMIT")
            return connection.total_changes

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path, timeout=_WAIT_SECONDS, isolation_level=None)) as connection:
                # A power cut may lose the last commits, never tear one: the next materialization brings them back.
                connection.execute("PRAGMA synchronous=NORMAL")
                yield connection
        except sqlite3.Error as error:
            is_busy = getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY")
            kind = OnlineStoreUnavailableError if is_busy else OnlineStoreError
            hint = "another process holds it; try again." if is_busy else "run `mlway materialize`."
            raise kind(f"The online store {self._path} cannot be written: {error}.\nHint: {hint}") from error


def _create(connection: sqlite3.Connection, view: OnlineView) -> None:
    table = sqlite_table(view.name)
    keys = {quoted(key): _KEY_TYPES[view.join_keys[key]] for key in sorted(view.join_keys)}
    found = {quoted(row[1]): (row[2], row[5]) for row in connection.execute(f"PRAGMA table_info({table})")}
    if found and keys != {column: kind for column, (kind, key) in found.items() if key}:
        connection.execute(f"DROP TABLE {table}")  # keyed by something else: nothing of it can be found any more
        found = {}
    # Without a type of SQLite's, which would turn -0.0 into a whole number.
    features = sqlite_columns(view)
    if found:
        for column in features:
            if column not in found:
                connection.execute(f"ALTER TABLE {table} ADD COLUMN {column}")
        return
    declared = "".join(f"{column} {kind} NOT NULL, " for column, kind in keys.items())
    connection.execute(
        f"CREATE TABLE {table} ({declared}{SQLITE_TIMESTAMP} INTEGER NOT NULL, {SQLITE_DEFINITION} BLOB NOT NULL, "
        f"{', '.join([f'{SQLITE_AS_OF} INTEGER', *features])}, PRIMARY KEY({', '.join(keys)})) WITHOUT ROWID"
    )


def _upsert(view: OnlineView) -> str:
    keys = [quoted(key) for key in sorted(view.join_keys)]
    values = [SQLITE_TIMESTAMP, SQLITE_DEFINITION, SQLITE_AS_OF, *sqlite_columns(view)]
    marks = ", ".join("?" * (len(keys) + len(values)))
    assignments = ", ".join(f"{column} = excluded.{column}" for column in values)
    return (
        f"INSERT INTO {sqlite_table(view.name)} ({', '.join([*keys, *values])}) VALUES ({marks}) "
        f"ON CONFLICT({', '.join(keys)}) DO UPDATE SET {assignments} "
        f"WHERE CASE WHEN excluded.{SQLITE_AS_OF} IS NULL THEN excluded.{SQLITE_TIMESTAMP} >= {SQLITE_TIMESTAMP} "
        f"WHEN {SQLITE_DEFINITION} IS NOT excluded.{SQLITE_DEFINITION} THEN TRUE "
        f"WHEN {SQLITE_AS_OF} IS NULL THEN excluded.{SQLITE_TIMESTAMP} >= {SQLITE_TIMESTAMP} "
        f"ELSE excluded.{SQLITE_AS_OF} >= {SQLITE_AS_OF} END"
    )

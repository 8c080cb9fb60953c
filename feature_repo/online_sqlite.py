"""The embedded online store: one SQLite file with a row for each entity of a view.

Feast's own layout has a row for each feature, which takes several times longer to write and to read. A SQL view with
Feast's name and columns shows the rows in that layout, so that Feast's stock store reads the file too.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import repeat
from pathlib import Path

from feature_repo.online_layout import (
    NEVER,
    SQLITE_AS_OF,
    SQLITE_DEFINITION,
    SQLITE_KEY,
    SQLITE_SECOND,
    SQLITE_TIMESTAMP,
    OnlineStoreError,
    OnlineStoreUnavailableError,
    OnlineView,
    quoted,
    sqlite_feast_table,
    sqlite_table,
)
from feature_repo.online_writing import EncodedRows

_BATCH = 20_000
"""Rows of a transaction: a pusher never waits longer for a materialization than these take."""
_WAIT_SECONDS = 30.0
_OUTDATED = (
    f"({SQLITE_DEFINITION} IS NOT ? OR ({SQLITE_AS_OF} IS NOT NULL AND {SQLITE_AS_OF} <= ?) OR {SQLITE_TIMESTAMP} < ?)"
)


class SqliteWriter:
    """Writes the file at `path`. Each call opens and closes a connection of its own."""

    def __init__(self, path: str) -> None:
        self._path = path

    def prepare(self, view: OnlineView) -> None:
        """Make the view's table and Feast's view of it; features that were added get a column."""
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
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"DROP VIEW IF EXISTS {sqlite_feast_table(name)}")
            connection.execute(f"DROP TABLE IF EXISTS {sqlite_table(name)}")
            connection.execute("COMMIT")

    def write(self, view: OnlineView, rows: EncodedRows, as_of: int = NEVER) -> int:
        """Store the rows, unless newer ones are stored; see OnlineWriter."""
        moment = None if as_of == NEVER else as_of
        values = list(
            zip(rows.keys, rows.timestamps, repeat(view.definition), repeat(moment), *rows.values, strict=False)
        )
        # In the order of the tree that they go into; rows of one entity keep theirs.
        values.sort(key=lambda row: row[0])
        return self._execute(_upsert(view), values)

    def prune(self, view: OnlineView, keep: set[bytes], as_of: int, alive_since: int) -> int:
        """Delete what a full materialization did not find; see OnlineWriter."""
        outdated = (view.definition, as_of, alive_since)
        table = sqlite_table(view.name)
        with self._connection() as connection:
            found = connection.execute(f"SELECT {SQLITE_KEY} FROM {table} WHERE {_OUTDATED}", outdated)
            gone = [(key, *outdated) for (key,) in found if key not in keep]
        return self._execute(f"DELETE FROM {table} WHERE {SQLITE_KEY} = ? AND {_OUTDATED}", gone)

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
    table, feast_table = sqlite_table(view.name), sqlite_feast_table(view.name)
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {table} ({SQLITE_KEY} BLOB PRIMARY KEY, {SQLITE_TIMESTAMP} INTEGER NOT NULL, "
        f"{SQLITE_DEFINITION} BLOB NOT NULL, {SQLITE_AS_OF} INTEGER, "
        # Whole seconds under the type by which Feast's connection knows a moment.
        f"{SQLITE_SECOND} timestamp AS (({SQLITE_TIMESTAMP} - ({SQLITE_TIMESTAMP} % 1000000 + 1000000) % 1000000) "
        "/ 1000000)) WITHOUT ROWID"
    )
    columns = {row[1] for row in connection.execute(f"PRAGMA table_xinfo({table})")}
    for feature in view.features:
        if feature not in columns:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {quoted(feature)} BLOB")
    wanted = _feast_view(view)
    name = feast_table[1:-1].replace('""', '"')
    found = connection.execute("SELECT type, sql FROM sqlite_master WHERE name = ?", (name,)).fetchone()
    if found is not None and found != ("view", wanted):
        connection.execute(f"DROP {'VIEW' if found[0] == 'view' else 'TABLE'} {feast_table}")
    if found != ("view", wanted):
        connection.execute(wanted)


def _feast_view(view: OnlineView) -> str:
    names = ", ".join(f"({_text(name)})" for name in view.features)
    values = " ".join(f"WHEN {_text(name)} THEN e.{quoted(name)}" for name in view.features)
    return (
        f"CREATE VIEW {sqlite_feast_table(view.name)} AS SELECT entity_key, feature_name, value, NULL AS value_text, "
        "NULL AS vector_value, event_ts, NULL AS created_ts FROM ("
        f"SELECT e.{SQLITE_KEY} AS entity_key, f.column1 AS feature_name, CASE f.column1 {values} END AS value, "
        f"e.{SQLITE_SECOND} AS event_ts FROM {sqlite_table(view.name)} AS e, (VALUES {names}) AS f) "
        "WHERE value IS NOT NULL"
    )


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _upsert(view: OnlineView) -> str:
    features = [quoted(name) for name in view.features]
    columns = [SQLITE_KEY, SQLITE_TIMESTAMP, SQLITE_DEFINITION, SQLITE_AS_OF, *features]
    assignments = ", ".join(f"{column} = excluded.{column}" for column in columns[1:])
    return (
        f"INSERT INTO {sqlite_table(view.name)} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))}) "
        f"ON CONFLICT({SQLITE_KEY}) DO UPDATE SET {assignments} "
        f"WHERE excluded.{SQLITE_TIMESTAMP} >= {SQLITE_TIMESTAMP} OR (excluded.{SQLITE_AS_OF} IS NOT NULL "
        f"AND ({SQLITE_DEFINITION} IS NOT excluded.{SQLITE_DEFINITION} OR {SQLITE_AS_OF} <= excluded.{SQLITE_AS_OF}))"
    )

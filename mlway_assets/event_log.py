"""Dagster's SQLite event log, with one transaction for each batch of events instead of two for each event.

A run over a year of daily partitions writes thousands of events at once. Dagster hands them over in batches where
DAGSTER_EVENT_BATCH_SIZE is set, but its SQLite storage still opens a database for every event.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from dagster import EventLogEntry
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy.engine import Connection

BATCH_SIZE = 1000


class BatchedSqliteEventLogStorage(SqliteEventLogStorage):
    """Stores the same rows in the same files as its base, so either can read what the other wrote."""

    _open: dict[str, Connection] | None = None
    _stack: ExitStack | None = None
    _thread: int | None = None

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        # A batch holds the lock while it opens the run's file and the index: the base's lock is not re-entrant.
        self._db_lock = threading.RLock()  # type: ignore[assignment]

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "BatchedSqliteEventLogStorage":
        """Called with the `config` of dagster.yaml; the base would build itself."""
        return cls(inst_data=inst_data, **config_value)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        # Another thread waits in the base for the lock that the batch holds.
        if self._open is None or self._stack is None or self._thread != threading.get_ident():
            with super()._connect(shard) as connection:
                yield connection
            return
        if shard not in self._open:
            self._open[shard] = self._stack.enter_context(super()._connect(shard))
        yield self._open[shard]

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store `events` in one transaction for each file that they go to."""
        with self._db_lock, ExitStack() as stack:
            self._open, self._stack, self._thread = {}, stack, threading.get_ident()
            try:
                for event in events:
                    self.store_event(event)
            finally:
                self._open = self._stack = None

"""Read the production online store: one pipelined write and read over all distinct entities, a hash for each.

A read of a few rows goes a shorter way than one of many, and gives the same.
"""

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import hiredis

from configs.environments import RedisOnlineStore
from configs.features import TableFeatures
from feature_repo.online_layout import (
    HASH_SUFFIX,
    EntityKeys,
    OnlineStoreError,
    OnlineStoreUnavailableError,
    epoch_microseconds,
    redis_key,
    redis_timestamp_field,
)
from feature_repo.online_rows import RowLayout
from serving.online_features import FeatureColumns
from serving.online_views import ViewColumns, ViewReader, assemble, row_count
from serving.redis_connection import BusyError, RedisConnection, greeting, packed

_GARBLED = (hiredis.HiredisError, IndexError, UnicodeDecodeError)
"""What parsing and decoding raise for bytes that nobody of ours wrote."""
_FEW = 8
"""Up to so many rows it takes less to decode each for itself than to begin with columns."""


class RedisOnlineFeatures:
    """The reader of one Redis server. Each thread has a connection of its own, opened at its first read."""

    def __init__(self, address: RedisOnlineStore, groups: Sequence[TableFeatures]) -> None:
        self._address = address
        self._views = [ViewReader(group) for group in groups]
        kinds: dict[tuple[tuple[str, str], ...], list[ViewReader]] = {}
        for view in self._views:
            kinds.setdefault(tuple(sorted(view.stored.join_keys.items())), []).append(view)
        self._kinds = [_KindOfHash(dict(keys), views) for keys, views in kinds.items()]
        self._no_values: dict[str, list[Any]] = {name: [] for view in self._views for name in view.features}
        self._no_ages: dict[str, list[float | None]] = {view.name: [] for view in self._views}
        """In the order in which `assemble` puts them."""
        self._greeting = greeting(address)
        self._local = threading.local()

    def read(self, entities: Mapping[str, Sequence[Any]], as_of: datetime) -> FeatureColumns:
        """The features of every row as of a moment; see OnlineFeatures.

        A connection that fails is replaced, as often as is declared.
        """
        moment = epoch_microseconds(as_of)
        failure: Exception | None = None
        for _ in range(self._address.attempts):
            try:
                count = row_count(entities)
                if 0 < count <= _FEW:
                    return self._read_few(self._connection(), entities, count, moment)
                return assemble(self._views, self._read(self._connection(), entities, moment), count)
            except (OSError, BusyError) as error:
                failure = error
                self._close()
            except _GARBLED as error:
                self._close()
                raise OnlineStoreError(
                    f"Redis at {self._address.host}:{self._address.port} answers what is no feature values: {error}.\n"
                    "Hint: look whether it is the server of the environment; if so, run `mlway materialize`."
                ) from error
            except BaseException:
                self._close()  # replies may still be on their way
                raise
        raise OnlineStoreUnavailableError(
            f"Redis at {self._address.host}:{self._address.port} does not answer, "
            f"tried {self._address.attempts} times: {failure or type(failure).__name__}.\n"
            "Hint: look whether it runs, and at `feature_store.online` of the environment."
        ) from failure

    def _read(
        self, connection: RedisConnection, entities: Mapping[str, Sequence[Any]], as_of: int
    ) -> dict[str, ViewColumns]:
        """All commands go out before the first reply is awaited; Redis works on some while others are packed."""
        connection.begin()
        asked = []
        for kind in self._kinds:
            keys = kind.keys.encode(entities)
            found = _distinct(keys)
            connection.send(kind.commands(found))
            asked.append((kind, keys, found))
        connection.flush()
        columns: dict[str, ViewColumns] = {}
        for kind, keys, found in asked:
            columns |= kind.columns(connection.receive(len(found)), keys, found, as_of)
        return columns

    def _read_few(
        self, connection: RedisConnection, entities: Mapping[str, Sequence[Any]], count: int, as_of: int
    ) -> FeatureColumns:
        """As `_read` and `assemble`, of a few rows: each is decoded for itself, and entities may be asked for twice."""
        connection.begin()
        keys = [kind.keys.encode(entities) for kind in self._kinds]
        connection.send(
            b"".join(
                [
                    kind.command(key)
                    for kind, asked in zip(self._kinds, keys, strict=True)
                    for key in asked
                    if key is not None
                ]
            )
        )
        connection.flush()
        values, ages = self._no_values.copy(), self._no_ages.copy()
        for kind, asked in zip(self._kinds, keys, strict=True):
            replies = iter(connection.receive(count - asked.count(None)))
            messages = [kind.nothing if key is None else next(replies) for key in asked]
            for (view, layout), column in zip(kind.views, zip(*messages, strict=True), strict=True):
                rows = [view.row(*layout.decode_one(message), as_of) for message in column]
                values.update(zip(view.features, map(list, zip(*[row for row, _ in rows], strict=True)), strict=True))
                ages[view.name] = [age for _, age in rows]
        missing = [[view for view in ages if ages[view][row] is None] for row in range(count)]
        return FeatureColumns(values, ages, missing)

    def _connection(self) -> RedisConnection:
        connection: RedisConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = RedisConnection(self._address, self._greeting)
        return connection

    def _close(self) -> None:
        connection: RedisConnection | None = getattr(self._local, "connection", None)
        self._local.connection = None
        if connection is not None:
            connection.close()


class _KindOfHash:
    """The views that lie in one hash, keyed by the same join keys, and the command that reads all of them."""

    def __init__(self, join_keys: Mapping[str, str], views: Sequence[ViewReader]) -> None:
        self.keys = EntityKeys(join_keys)
        self.views = [(view, RowLayout(view.stored)) for view in views]
        self.nothing = [None] * len(views)
        self._head = b"*%d\r\n$5\r\nHMGET\r\n" % (2 + len(views))
        self._tail = b"".join(packed(redis_timestamp_field(view.name)) for view in views)
        self._end = HASH_SUFFIX + b"\r\n" + self._tail

    def command(self, key: bytes) -> bytes:
        """The command for one entity."""
        return b"%b$%d\r\n%b%b" % (self._head, len(key) + len(HASH_SUFFIX), key, self._end)

    def commands(self, keys: Sequence[bytes]) -> bytes:
        """One command for each entity."""
        head, tail, lengths = self._head, self._tail, set(map(len, keys))
        if len(lengths) == 1:  # what is between two keys is always the same, and one join puts it there
            start, end = b"%b$%d\r\n" % (head, lengths.pop() + len(HASH_SUFFIX)), self._end
            return start + (end + start).join(keys) + end
        hashes = map(redis_key, keys)
        return b"".join([b"%b$%d\r\n%b\r\n%b" % (head, len(key), key, tail) for key in hashes])

    def columns(
        self, replies: Sequence[Sequence[bytes | None]], asked: list[bytes | None], found: list[bytes], as_of: int
    ) -> dict[str, ViewColumns]:
        """The columns of each view for the rows of `asked`, from the replies for the entities `found`."""
        messages: list[Sequence[bytes | None]] = list(zip(*replies, strict=True)) or [()] * len(self.views)
        rows = None if asked == found else _places(asked, found)
        columns: dict[str, ViewColumns] = {}
        for (view, layout), column in zip(self.views, messages, strict=True):
            read = view.columns(*layout.decode(column), as_of)
            columns[view.name] = read if rows is None else _spread(read, rows)
        return columns


def _distinct(asked: list[bytes | None]) -> list[bytes]:
    """The entities to ask for; a few that repeat cost less than telling them apart."""
    found = [key for key in dict.fromkeys(asked) if key is not None]
    return asked if None not in asked and 4 * len(found) > 3 * len(asked) else found  # type: ignore[return-value]


def _places(asked: Sequence[bytes | None], found: Sequence[bytes]) -> list[int]:
    """Where among `found` each row's entity is; -1 for a row without one."""
    places: dict[bytes | None, int] = {key: place for place, key in enumerate(found)}
    places[None] = -1
    return [places[key] for key in asked]


def _spread(columns: ViewColumns, rows: Sequence[int]) -> ViewColumns:
    """The columns of distinct entities for rows that repeat them; the last place, -1, holds nothing."""
    values = [[*column, None] for column in columns.values]
    ages = [*columns.ages, None]
    return ViewColumns([[column[row] for row in rows] for column in values], [ages[row] for row in rows])

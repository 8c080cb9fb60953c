"""Read the production online store: one pipelined write and read over all distinct entities, a hash for each.

The commands are packed here and the replies parsed by hiredis: redis-py takes longer to say HMGET than Redis to answer.
"""

import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from time import monotonic
from typing import Any

import hiredis

from configs.environments import RedisOnlineStore
from configs.features import TableFeatures
from configs.secrets import resolve_secret
from feature_repo.online_layout import (
    EntityKeys,
    OnlineStoreError,
    OnlineStoreUnavailableError,
    ValueDecoder,
    decode_timestamps,
    epoch_microseconds,
    redis_field,
    redis_key,
    redis_timestamp_field,
)
from serving.online_features import FeatureColumns
from serving.online_views import ViewColumns, ViewReader, assemble, row_count

_CHUNK = 262_144
_PASSING = ("LOADING", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN")
"""Replies of a server that will answer once it has done something else."""


class RedisOnlineFeatures:
    """The reader of one Redis server. Each thread has a connection of its own, opened at its first read."""

    def __init__(self, address: RedisOnlineStore, groups: Sequence[TableFeatures]) -> None:
        self._address = address
        self._views = [ViewReader(group) for group in groups]
        kinds: dict[tuple[tuple[str, str], ...], list[ViewReader]] = {}
        for view in self._views:
            kinds.setdefault(tuple(sorted(view.stored.join_keys.items())), []).append(view)
        self._kinds = [_KindOfHash(dict(keys), views) for keys, views in kinds.items()]
        self._greeting = _greeting(address)
        self._local = threading.local()

    def read(self, entities: Mapping[str, Sequence[Any]], as_of: datetime) -> FeatureColumns:
        """The features of every row as of a moment; see OnlineFeatures."""
        count, moment = row_count(entities), epoch_microseconds(as_of)
        asked = [kind.keys.encode(entities) for kind in self._kinds]
        distinct = [list(dict.fromkeys(key for key in keys if key is not None)) for keys in asked]
        commands = [part for kind, keys in zip(self._kinds, distinct, strict=True) for part in kind.commands(keys)]
        replies = self._ask(commands)
        columns: dict[str, ViewColumns] = {}
        start = 0
        for kind, keys, found in zip(self._kinds, asked, distinct, strict=True):
            end = start + len(found)
            columns |= kind.columns(replies[start:end], keys, found, moment)
            start = end
        return assemble(self._views, columns, count)

    def _ask(self, commands: list[bytes]) -> list[Any]:
        """A reply to each command; a connection that fails is replaced, as often as is declared."""
        if not commands:
            return []
        failure: Exception | None = None
        for _ in range(self._address.attempts):
            try:
                connection: _Connection | None = getattr(self._local, "connection", None)
                if connection is None:
                    connection = self._local.connection = _Connection(self._address, self._greeting)
                return connection.ask(commands)
            except (OSError, _NotNow) as error:
                failure = error
                self._close()
            except BaseException:
                self._close()  # replies may still be on their way
                raise
        raise OnlineStoreUnavailableError(
            f"Redis at {self._address.host}:{self._address.port} does not answer, "
            f"tried {self._address.attempts} times: {failure or type(failure).__name__}.\n"
            "Hint: look whether it runs, and at `feature_store.online` of the environment."
        ) from failure

    def _close(self) -> None:
        connection: _Connection | None = getattr(self._local, "connection", None)
        self._local.connection = None
        if connection is not None:
            connection.close()


class _NotNow(Exception):
    """The server is there, and busy with something else."""


class _KindOfHash:
    """The views that lie in one hash, keyed by the same join keys, and the command that reads all of them."""

    def __init__(self, join_keys: Mapping[str, str], views: Sequence[ViewReader]) -> None:
        self.keys = EntityKeys(join_keys)
        self._views = [(view, ValueDecoder(list(view.stored.features.values()))) for view in views]
        fields = []
        for view in views:
            fields += [redis_timestamp_field(view.name), *(redis_field(view.name, name) for name in view.features)]
        self._head = b"*%d\r\n$5\r\nHMGET\r\n" % (2 + len(fields))
        self._tail = b"".join(_packed(field) for field in fields)
        self._width = len(fields)

    def commands(self, keys: Sequence[bytes]) -> list[bytes]:
        """One command for each entity."""
        head, tail = self._head, self._tail
        hashes = map(redis_key, keys)
        return [b"%b$%d\r\n%b\r\n%b" % (head, len(key), key, tail) for key in hashes]

    def columns(
        self, replies: Sequence[Sequence[bytes | None]], asked: list[bytes | None], found: list[bytes], as_of: int
    ) -> dict[str, ViewColumns]:
        """The columns of each view for the rows of `asked`, from the replies for the entities `found`."""
        fields: list[Sequence[bytes | None]] = list(zip(*replies, strict=True)) or [()] * self._width
        rows = None if asked == found else _places(asked, found)
        columns: dict[str, ViewColumns] = {}
        start = 0
        for view, decoder in self._views:
            end = start + 1 + len(view.features)
            read = view.columns(decode_timestamps(fields[start]), decoder.decode(fields[start + 1 : end]), as_of)
            columns[view.name] = read if rows is None else _spread(read, rows)
            start = end
        return columns


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


class _Connection:
    """A connection that keeps deadlines: no call takes longer than is declared."""

    def __init__(self, address: RedisOnlineStore, greeting: list[bytes]) -> None:
        self._seconds = address.timeout_milliseconds / 1_000
        self._reader = hiredis.Reader()
        self._socket = socket.create_connection((address.host, address.port), self._seconds)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if address.tls:
                context = ssl.create_default_context(cafile=address.ca_file)
                self._socket = context.wrap_socket(self._socket, server_hostname=address.host)
            self.ask(greeting)
        except BaseException:
            self.close()
            raise

    def ask(self, commands: list[bytes]) -> list[Any]:
        """Send everything at once and wait for all replies. Raises OSError, OnlineStoreError."""
        deadline = monotonic() + self._seconds
        self._socket.settimeout(self._seconds)
        self._socket.sendall(b"".join(commands))
        replies: list[Any] = []
        while len(replies) < len(commands):
            reply = self._reader.gets()
            if reply is not False:
                replies.append(reply)
                continue
            left = deadline - monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            self._socket.settimeout(left)
            data = self._socket.recv(_CHUNK)
            if not data:
                raise ConnectionResetError("the server closed the connection")
            self._reader.feed(data)
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                raise _refusal(reply)
        return replies

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _greeting(address: RedisOnlineStore) -> list[bytes]:
    """What a connection says first. Raises MissingSecretError."""
    commands = []
    if address.password_secret:
        user = [address.username] if address.username else []
        commands.append(_command("AUTH", *user, resolve_secret(address.password_secret)))
    if address.database:
        commands.append(_command("SELECT", str(address.database)))
    return commands


def _refusal(reply: Exception) -> Exception:
    if str(reply).startswith(_PASSING):
        return _NotNow(str(reply))
    return OnlineStoreError(
        f"Redis refuses a read: {reply}.\nHint: check the account and the password that the environment names."
    )


def _command(*words: str) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(_packed(word.encode()) for word in words)


def _packed(argument: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(argument), argument)

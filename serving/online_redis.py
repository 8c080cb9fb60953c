"""Read the production online store: one pipelined write and read over all distinct entities, a hash for each.

The commands are packed here and the replies parsed by hiredis: redis-py takes longer to say HMGET than Redis to answer.
"""

import socket
import ssl
import struct
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from os import sched_yield
from time import monotonic
from typing import Any

import hiredis

from configs.environments import RedisOnlineStore
from configs.features import TableFeatures
from configs.secrets import resolve_secret
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

_CHUNK = 65_536
_LOOKS = 40
"""So many looks for a reply take about as long as falling asleep and being woken."""
_LONG_SECONDS, _MANY_READS = 0.001, 1_000
"""Looks that took so long were kept waiting by others; so many reads then do without them."""
_WORTH_SENDING = 8_192
_PASSING = ("LOADING", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN")
"""Replies of a server that will answer once it has done something else."""
_GARBLED = (hiredis.HiredisError, IndexError, UnicodeDecodeError)
"""What parsing and decoding raise for bytes that nobody of ours wrote."""


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
        """The features of every row as of a moment; see OnlineFeatures.

        A connection that fails is replaced, as often as is declared.
        """
        moment = epoch_microseconds(as_of)
        failure: Exception | None = None
        for _ in range(self._address.attempts):
            try:
                columns = self._read(self._connection(), entities, moment)
                return assemble(self._views, columns, row_count(entities))
            except (OSError, _NotNow) as error:
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
        self, connection: "_Connection", entities: Mapping[str, Sequence[Any]], as_of: int
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

    def _connection(self) -> "_Connection":
        connection: _Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = _Connection(self._address, self._greeting)
        return connection

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
        self._views = [(view, RowLayout(view.stored)) for view in views]
        self._head = b"*%d\r\n$5\r\nHMGET\r\n" % (2 + len(views))
        self._tail = b"".join(_packed(redis_timestamp_field(view.name)) for view in views)

    def commands(self, keys: Sequence[bytes]) -> bytes:
        """One command for each entity."""
        head, tail, lengths = self._head, self._tail, set(map(len, keys))
        if len(lengths) == 1:  # what is between two keys is always the same, and one join puts it there
            start, end = b"%b$%d\r\n" % (head, lengths.pop() + len(HASH_SUFFIX)), HASH_SUFFIX + b"\r\n" + tail
            return start + (end + start).join(keys) + end
        hashes = map(redis_key, keys)
        return b"".join([b"%b$%d\r\n%b\r\n%b" % (head, len(key), key, tail) for key in hashes])

    def columns(
        self, replies: Sequence[Sequence[bytes | None]], asked: list[bytes | None], found: list[bytes], as_of: int
    ) -> dict[str, ViewColumns]:
        """The columns of each view for the rows of `asked`, from the replies for the entities `found`."""
        messages: list[Sequence[bytes | None]] = list(zip(*replies, strict=True)) or [()] * len(self._views)
        rows = None if asked == found else _places(asked, found)
        columns: dict[str, ViewColumns] = {}
        for (view, layout), column in zip(self._views, messages, strict=True):
            read = view.columns(*layout.decode(column), as_of)
            columns[view.name] = read if rows is None else _spread(read, rows)
        return columns


def _distinct(asked: list[bytes | None]) -> list[bytes]:
    """The entities to ask for; a few that repeat cost less than telling them apart."""
    if len(asked) == 1 and asked[0] is not None:
        return [asked[0]]
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


class _Connection:
    """A connection on which nothing waits longer than is declared."""

    def __init__(self, address: RedisOnlineStore, greeting: list[bytes]) -> None:
        self._seconds = address.timeout_milliseconds / 1_000
        self._deadline = 0.0
        self._unsent = b""
        self._reader = hiredis.Reader()
        self._buffer = bytearray(_CHUNK)
        self._reads_to_sleep = 0
        self._socket = socket.create_connection((address.host, address.port), self._seconds)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._is_plain = not address.tls
            if address.tls:
                context = ssl.create_default_context(cafile=address.ca_file)
                self._socket = context.wrap_socket(self._socket, server_hostname=address.host)
            else:
                self._let_the_kernel_wait()
            self.begin()
            self.send(b"".join(greeting))
            self.flush()
            self.receive(len(greeting))
        except BaseException:
            self.close()
            raise

    def begin(self) -> None:
        """Start the clock of an exchange."""
        self._deadline = monotonic() + self._seconds

    def send(self, commands: bytes) -> None:
        """Send commands, once there are enough of them to be worth it. Raises OSError."""
        self._unsent += commands
        if len(self._unsent) >= _WORTH_SENDING:
            self.flush()

    def flush(self) -> None:
        """Send what was not. Raises OSError."""
        if self._unsent:
            self._socket.sendall(self._unsent)
            self._unsent = b""

    def receive(self, count: int) -> list[Any]:
        """The next replies. Raises OSError, OnlineStoreError."""
        replies: list[Any] = []
        while len(replies) < count:
            reply = self._reader.gets()
            if reply is False:  # not there yet
                self._feed()
            elif isinstance(reply, hiredis.ReplyError):
                raise _refusal(reply)
            else:
                replies.append(reply)
        return replies

    def _feed(self) -> None:
        if monotonic() > self._deadline:
            raise TimeoutError("timed out")
        try:
            size = self._receive_awake() or self._socket.recv_into(self._buffer)
        except BlockingIOError as error:
            raise TimeoutError("timed out") from error
        if not size:
            raise ConnectionResetError("the server closed the connection")
        self._reader.feed(self._buffer, 0, size)  # type: ignore[arg-type] # takes a bytearray too

    def _receive_awake(self) -> int:
        """The bytes that arrive within the time that it takes to fall asleep and be woken; 0 if none, or at the end.

        Each look gives way, since Redis may be waiting for this very processor. Who else is waiting may keep it long:
        where that happens, many reads sleep as others do.
        """
        if not self._is_plain or self._reads_to_sleep:
            self._reads_to_sleep -= self._is_plain
            return 0
        began = monotonic()
        size = self._look()
        if monotonic() - began > _LONG_SECONDS:
            self._reads_to_sleep = _MANY_READS
        return size

    def _look(self) -> int:
        for _ in range(_LOOKS):
            try:
                return self._socket.recv_into(self._buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                sched_yield()
        return 0

    def _let_the_kernel_wait(self) -> None:
        """Python keeps a deadline by a poll before each call; the kernel needs no more than the call."""
        limit = struct.pack("ll", int(self._seconds), int(self._seconds % 1 * 1e6))
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

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

"""One connection to Redis, as the reader of online features needs it: commands out, replies back, by a deadline.

The commands are packed here and the replies parsed by hiredis: redis-py takes longer to say HMGET than Redis to answer.
"""

import socket
import ssl
import struct
from collections.abc import Sequence
from os import sched_yield
from time import monotonic
from typing import Any

import hiredis

from configs.environments import RedisOnlineStore
from configs.secrets import resolve_secret
from feature_repo.online_layout import OnlineStoreError

_CHUNK = 65_536
_LOOKS = 40
"""So many looks for a reply take about as long as falling asleep and being woken."""
_LONG_SECONDS, _MANY_READS = 0.001, 1_000
"""Looks that took so long were kept waiting by others; so many reads then do without them."""
_WORTH_SENDING = 8_192
_PASSING = ("LOADING", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN")
"""Replies of a server that will answer once it has done something else."""


class BusyError(Exception):
    """The server is there, and busy with something else."""


class RedisConnection:
    """A connection on which nothing waits longer than is declared."""

    def __init__(self, address: RedisOnlineStore, greeting: Sequence[bytes]) -> None:
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


def greeting(address: RedisOnlineStore) -> list[bytes]:
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
        return BusyError(str(reply))
    return OnlineStoreError(
        f"Redis refuses a read: {reply}.\nHint: check the account and the password that the environment names."
    )


def _command(*words: str) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(packed(word.encode()) for word in words)


def packed(argument: bytes) -> bytes:
    """As Redis reads an argument."""
    return b"$%d\r\n%b\r\n" % (len(argument), argument)

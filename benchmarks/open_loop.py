"""Load by HTTP whose requests come when they are due, whether or not earlier ones were answered, and load that waits.

Nothing of what is asked or of what an answer says is known here.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from time import perf_counter
from urllib.parse import urlsplit

MOST_CONNECTIONS = 3_500
"""HAProxy takes 4,096 (RAY_SERVE_HAPROXY_MAXCONN); others wait in the kernel."""
LOST = 0
"""The status of a request whose connection broke."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request."""

    status: int
    seconds: float
    """From when it was due."""
    says_when: bool
    """Whether the answer has Retry-After."""
    is_problem: bool
    """Whether it is application/problem+json."""


class Connection(asyncio.Protocol):
    """One kept connection: a request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._head, self._left = b"", -1
        self._answered: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It can be used."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    @property
    def is_open(self) -> bool:
        """Whether the other side has not closed it."""
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """At once."""
        if self._transport:
            self._transport.abort()

    async def ask(self, request: bytes) -> bytes:
        """The head of the answer, once its body is here too. Raises ConnectionError."""
        if self._transport is None or not self.is_open:
            raise ConnectionResetError
        self._head, self._left = b"", -1
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answered

    def data_received(self, data: bytes) -> None:
        """Part of an answer."""
        if self._left < 0:
            head, end, body = (self._head + data).partition(b"\r\n\r\n")
            self._head = head
            if not end:
                return
            self._head, self._left = head.lower(), _length(head.lower())
            data = body
        self._left -= len(data)
        if self._left <= 0 and self._answered and not self._answered.done():
            self._answered.set_result(self._head)

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits gets the error."""
        if self._answered and not self._answered.done():
            self._answered.set_exception(exc or ConnectionResetError())


class Load:
    """Asks one address for requests in turn."""

    def __init__(self, url: str, headers: Sequence[str], bodies: Sequence[bytes]) -> None:
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), int(parts.port or 80)
        lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}", "Content-Type: application/json", *headers]
        self._requests = cycle(
            "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body for body in bodies
        )
        self._free: list[Connection] = []
        self._count = 0
        self.outcomes: list[Outcome] = []

    async def closed(self, connections: int, seconds: float) -> float:
        """So many callers, each of which waits for its answer; the answers with 200 per second."""
        self.outcomes = []
        began = perf_counter()

        async def caller() -> None:
            while perf_counter() - began < seconds:
                await self._one(perf_counter())

        await asyncio.gather(*(caller() for _ in range(connections)))
        return sum(each.status == 200 for each in self.outcomes) / (perf_counter() - began)

    async def open(self, per_second: float, seconds: float) -> None:
        """So many requests in a second on average, at random moments; ends when the last is answered."""
        self.outcomes = []
        moments, began, tasks = random.Random(1), perf_counter(), set()
        due = began
        while (due := due + moments.expovariate(per_second)) < began + seconds:
            await asyncio.sleep(due - perf_counter())
            task = asyncio.create_task(self._one(due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

    def close(self) -> None:
        """All connections."""
        for connection in self._free:
            connection.close()

    async def _one(self, due: float) -> None:
        try:
            connection = await self._connection()
            head = await connection.ask(next(self._requests))
        except OSError:
            self.outcomes.append(Outcome(LOST, perf_counter() - due, False, False))
            return
        status = int(head[9:12])
        facts = (b"\r\nretry-after:" in head, b"application/problem+json" in head)
        self.outcomes.append(Outcome(status, perf_counter() - due, *facts))
        if b"\r\nconnection: close" not in head:
            self._free.append(connection)

    async def _connection(self) -> Connection:
        while self._free:
            connection = self._free.pop()
            if connection.is_open:
                return connection
            self._count -= 1
        if self._count >= MOST_CONNECTIONS:
            raise ConnectionRefusedError
        self._count += 1
        _, connection = await asyncio.get_running_loop().create_connection(Connection, self._host, self._port)
        return connection


def _length(head: bytes) -> int:
    _, found, rest = head.partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0

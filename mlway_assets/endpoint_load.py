"""Ask an endpoint what an application would, all the while: a few requests a second, each counted."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event
from time import perf_counter
from types import TracebackType
from typing import Any, Self

import httpx

PAUSE_SECONDS = 0.2


@dataclass
class Answers:
    """What was asked so far: how many answers by the version that gave them, and those that were none."""

    by_version: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    longest_seconds: float = 0.0

    @property
    def answered(self) -> int:
        """Requests that were answered."""
        return sum(self.by_version.values())


class EndpointLoad:
    """Asks until it is closed, beside whatever goes on; `request` gives each body, or None where there is none yet."""

    def __init__(self, url: str, key: str, request: Callable[[], dict[str, Any] | None]) -> None:
        """`url` is what of an endpoint is called."""
        self.answers = Answers()
        self._url, self._key, self._request = url, key, request
        self._is_over = Event()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="endpoint-load")
        self._asking: Future[None] | None = None

    def __enter__(self) -> Self:
        """Begin."""
        self._asking = self._executor.submit(self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, once the request in hand is answered. Raises what kept it from asking on: else that would look well."""
        self._is_over.set()
        self._executor.shutdown()
        if self._asking is not None and error is None:
            self._asking.result()

    def _ask(self) -> None:
        with httpx.Client(headers={"Authorization": f"Bearer {self._key}"}, timeout=30) as client:
            while not self._is_over.wait(PAUSE_SECONDS):
                body = self._request()
                if body is None:
                    continue
                began = perf_counter()
                try:
                    response = client.post(self._url, json=body)
                except httpx.TransportError as error:
                    self.answers.failed.append(f"{type(error).__name__}: {error}")
                    continue
                self.answers.longest_seconds = max(self.answers.longest_seconds, perf_counter() - began)
                if response.status_code != httpx.codes.OK:
                    self.answers.failed.append(f"{response.status_code}: {response.text[:200]}")
                    continue
                version = str(response.json()["model"].get("version", "baseline"))
                self.answers.by_version[version] = self.answers.by_version.get(version, 0) + 1

"""Do a job again and again beside the event loop, so that no request waits for a database or another service."""

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger("ray.serve")


class Poller:
    """A daemon thread around `job`, which gives the seconds until it is wanted again."""

    def __init__(self, name: str, job: Callable[[], float]) -> None:
        self._job = job
        self._woken, self._is_closed = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._seconds = 0.0

    def start(self) -> None:
        """Do the job once here, and from then on in the thread."""
        self._seconds = self._job()
        self._thread.start()

    def wake(self) -> None:
        """Do the job as soon as the thread can."""
        self._woken.set()

    def close(self) -> None:
        """Do no more."""
        self._is_closed = True
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while True:
            self._woken.wait(self._seconds)
            self._woken.clear()
            if self._is_closed:
                return
            try:
                self._seconds = self._job()
            except Exception:
                # The edge of the thread: a bug is logged with its trace. Were the thread to end, nothing would be read
                # any more, not even once the cause is gone; meanwhile what was read last grows stale, as it must.
                logger.exception("%s failed", self._thread.name)

"""A thread that does something every so often, beside the event loop: what it does must not happen in a request."""

import logging
from collections.abc import Callable
from threading import Event, Thread

logger = logging.getLogger("mlway.serving")


class Periodic:
    """Calls `work` every `seconds`, and once more when it is stopped.

    A call that fails is logged with its trace, and the next one comes all the same.
    """

    def __init__(self, name: str, work: Callable[[], None], seconds: float = 1.0) -> None:
        self._work = work
        self._seconds = seconds
        self._stopped = Event()
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Do the work a last time, then end."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            self._try()
        self._try()

    def _try(self) -> None:
        try:
            self._work()
        except Exception:
            # The edge of the thread: without this, one failed write would end the metrics of a replica unseen.
            logger.exception("%s failed", self._thread.name)

"""Work that is done every so often beside the event loop, and a last time when the replica ends."""

from collections.abc import Callable

from serving.poller import Poller


class Periodic:
    """Does `work` now, then every `seconds` in a thread, and once more when it is stopped.

    Raises what the first call raises. A later one that fails is logged with its trace, and the next comes all the same.
    """

    def __init__(self, name: str, work: Callable[[], None], seconds: float = 1.0) -> None:
        self._work = work
        self._seconds = seconds
        self._poller = Poller(name, self._job)
        self._poller.start()

    def stop(self) -> None:
        """End the thread and do the work a last time."""
        self._poller.close()
        self._work()

    def _job(self) -> float:
        self._work()
        return self._seconds

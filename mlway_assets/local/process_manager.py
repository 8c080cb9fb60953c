"""Start, ask and stop supervisord, and end what a killed earlier run has left behind."""

import os
import signal
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from configs.errors import MlwayError
from mlway_assets.local.paths import LocalPaths
from mlway_assets.local.services import MARK, Service, supervisor_config

STOP_SECONDS = 40


class ServiceError(MlwayError):
    """A local service did not start or stop."""


@dataclass(frozen=True)
class ServiceState:
    """What the process manager says of one service."""

    state: str
    process: int | None
    is_running: bool


class ProcessManager:
    """supervisord of one state folder."""

    def __init__(self, paths: LocalPaths) -> None:
        self._paths = paths
        self._socket = paths.sockets / "supervisor.sock"

    def is_running(self) -> bool:
        """Whether supervisord answers."""
        return self._ask(lambda server: server.getState()) is not None

    def start(self, services: list[Service]) -> None:
        """Start supervisord, which starts those services that start at once. Raises ServiceError."""
        config = self._paths.run / "supervisord.conf"
        config.write_text(supervisor_config(services, self._paths), encoding="utf-8")
        config.chmod(0o600)
        output = (self._paths.logs / "supervisord.out").open("ab")
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / "supervisord"), "-n", "-c", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=os.environ | {MARK: self._paths.mark},
        )
        if not wait_until(lambda: self.is_running() or process.poll() is not None, 20) or process.poll() is not None:
            raise ServiceError(f"The process manager did not start.\nHint: see {output.name}.")

    def start_rest(self) -> None:
        """Start every service that does not run yet."""
        self._ask(lambda server: server.startAllProcesses(False))

    def states(self) -> dict[str, ServiceState]:
        """Each service's state; empty while supervisord does not run."""
        answer = self._ask(lambda server: server.getAllProcessInfo()) or []
        return {
            info["name"]: ServiceState(info["statename"], info["pid"] or None, info["statename"] == "RUNNING")
            for info in answer
        }

    def require_alive(self) -> None:
        """Raises ServiceError when a service has given up."""
        for name, state in self.states().items():
            if state.state == "FATAL":
                raise ServiceError(f"{name} does not start.\nHint: see {self._paths.logs / name}.log.")

    def stop(self) -> None:
        """Stop every service and supervisord. Raises ServiceError when something outlives it."""
        self._ask(lambda server: server.shutdown())
        if not wait_until(lambda: not self.leftovers(), STOP_SECONDS):
            self.end_leftovers()

    def leftovers(self) -> list[psutil.Process]:
        """Living processes of this state folder's services."""
        return [process for process in psutil.process_iter() if _is_marked(process, self._paths)]

    def end_leftovers(self) -> list[str]:
        """End them, politely first; gives their command lines. Raises ServiceError when one will not go."""
        found = self.leftovers()
        described = [_describe(process) for process in found]
        for polite in (signal.SIGTERM, signal.SIGKILL):
            for process in self.leftovers():
                try:
                    process.send_signal(polite)
                except psutil.NoSuchProcess:
                    continue
            if wait_until(lambda: not self.leftovers(), 8):
                return described
        raise ServiceError(f"These processes do not end: {[process.pid for process in self.leftovers()]}")

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        from supervisor.xmlrpc import SupervisorTransport

        if not self._socket.exists():
            return None
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        try:
            with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as server:
                return question(server.supervisor)
        except (OSError, xmlrpc.client.ProtocolError, xmlrpc.client.Fault):
            return None


def wait_until(condition: Callable[[], bool], seconds: float, every: float = 0.2) -> bool:
    """Whether `condition` came to hold within `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(every)
    return True


def _is_marked(process: psutil.Process, paths: LocalPaths) -> bool:
    """Started by our supervisord, or holding a file of our Ray session: some of Ray's lose their environment."""
    if process.pid == os.getpid():
        return False
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        if process.environ().get(MARK) == paths.mark:
            return True
        root = f"{paths.state / 'ray'}/"
        return any(file.path.startswith(root) for file in process.open_files())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())[:80]}"
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return str(process.pid)

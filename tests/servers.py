"""Real servers for tests, started from what is on PATH.

Where one is not installed its tests say how to install it and are skipped; in continuous integration (CI=true) they
fail, so that nothing goes untested unseen.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

_S3_SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@contextmanager
def s3_server() -> Iterator[str]:
    """The address of an S3 server in a process of its own: Delta's library keeps Python's lock while it waits."""
    command = [sys.executable, "-c", _S3_SERVER]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, **pipes) as server:
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        server.stdin.close()  # the server ends, as it does when the tests are killed


def missing_server(server: str, package: str) -> NoReturn:
    """End a test whose server is not installed, with the way to install it."""
    message = f"{server} is not installed.\nHint: apt-get install -y {package}"
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(message)
    pytest.skip(message)


class RedisServer:
    """A Redis server on a port of this machine that only this test knows. It keeps nothing on disk."""

    def __init__(self, folder: Path, *options: str) -> None:
        program = shutil.which("redis-server")
        if program is None:
            missing_server("redis-server", "redis-server")
        self._program, self._folder, self._options = program, folder, options
        self.port = free_port()
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        with (self._folder / "redis.log").open("a") as log:
            self.process = subprocess.Popen([*command, *self._options], cwd=self._folder, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"redis-server did not start:\n{(self._folder / 'redis.log').read_text()}")
            time.sleep(0.01)

    def flush(self) -> None:
        """Delete everything."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall(b"FLUSHALL\r\n")
            assert connection.recv(64).startswith(b"+OK")

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self.process.kill()
        self.process.wait()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64)[:1] in (b"+", b"-")
        except OSError:
            return False


class PostgresqlServer:
    """A PostgreSQL server that listens on a socket in a folder of its own, and on nothing else."""

    def __init__(self) -> None:
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not programs:
            missing_server("PostgreSQL's server", "postgresql")
        self._programs = programs[-1]
        # The server refuses to run as root, and its account cannot enter pytest's folders.
        is_root = os.geteuid() == 0
        self._account: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if is_root else {}
        self.socket = Path(tempfile.mkdtemp(prefix="mlway-postgresql-"))
        if is_root:
            shutil.chown(self.socket, "postgres", "postgres")
        trust = ("-U", "postgres", "--auth-local=trust", "--auth-host=reject")
        self._run("initdb", *trust, "-E", "UTF8", "--locale=C", "--no-sync")
        self.start()

    @property
    def uri(self) -> str:
        """Address of its database, with a password that the server does not ask for."""
        return f"postgresql://postgres:hunter2@/postgres?host={self.socket}"

    def execute(self, *statements: str) -> None:
        """Run statements, each for itself."""
        from adbc_driver_postgresql import dbapi

        with dbapi.connect(self.uri, autocommit=True) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def empty(self) -> None:
        """An empty schema `public`."""
        self.execute("SET client_min_messages = warning", "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        # A time zone other than UTC, so that a reader which relies on the server's would be found out.
        settings = f"-k {self.socket} -c listen_addresses= -c fsync=off -c timezone=America/New_York"
        self._run("pg_ctl", "-w", "-l", str(self.socket / "log"), "-o", settings, "start")

    def stop(self) -> None:
        """End it at once, as a crash does."""
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def remove(self) -> None:
        """End it, and delete its folder."""
        try:
            self.stop()
        finally:
            shutil.rmtree(self.socket)

    def _run(self, program: str, *arguments: str) -> None:
        command = [self._programs / program, "-D", self.socket / "data", *arguments]
        with (self.socket / "output").open("a+") as output:
            done = subprocess.run(command, cwd=self.socket, stdout=output, stderr=output, check=False, **self._account)
        if done.returncode:
            pytest.fail(f"{program} failed:\n{(self.socket / 'output').read_text()}")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])

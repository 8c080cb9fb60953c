"""Where the local services keep their files."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from configs.environments import Environment


@dataclass(frozen=True)
class LocalPaths:
    """Everything lies in the state folder, but for sockets: their paths may be at most 107 bytes long."""

    state: Path

    @property
    def mark(self) -> str:
        """Tells this state folder's processes from those of another."""
        return hashlib.sha256(str(self.state.resolve()).encode()).hexdigest()[:8]

    @property
    def sockets(self) -> Path:
        """Short folder for sockets, readable by its owner only.

        HAProxy allows 97 bytes, of which Ray takes 70 for the node's id and the socket's name: 27 are left.
        """
        return Path("/tmp") / f"mlway-{self.mark}"  # noqa: S108 - the owner is checked where it is made

    @property
    def dagster_home(self) -> Path:
        """Dagster's instance."""
        return self.state / "dagster"

    @property
    def logs(self) -> Path:
        """One log file for each service."""
        return self.state / "logs"

    @property
    def run(self) -> Path:
        """The process manager's configuration and Ray's token."""
        return self.state / "run"

    @property
    def ray_token(self) -> Path:
        """Ray's access token."""
        return self.run / "ray_token"

    @property
    def local_key(self) -> Path:
        """The API key of whoever works at this machine."""
        return self.state / "keys" / "local"

    @property
    def ports_file(self) -> Path:
        """The ports of the running services, as JSON."""
        return self.run / "ports.json"


def local_paths(environment: Environment) -> LocalPaths:
    """The paths of an environment."""
    return LocalPaths(environment.state)

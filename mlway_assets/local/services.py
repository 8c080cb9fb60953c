"""The local services: their commands, their environment, and the process manager's configuration of them."""

import os
import secrets
import shutil
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from configs.environments import Environment
from configs.errors import MlwayError
from configs.load import PROJECT_ROOT, configs_folder, load_project
from configs.secrets import resolve_secret
from mlway_assets.local.haproxy import write_haproxy
from mlway_assets.local.instance import dagster_variables
from mlway_assets.local.paths import LocalPaths, local_paths
from serving.deploy import GATEWAY, GATEWAY_ENDPOINT

MARK = "MLWAY_STATE_MARK"
LOOPBACK = "127.0.0.1"
RAY, GRPC, DAGSTER, DAEMON, MLFLOW = "ray", "grpc", "dagster", "dagster-daemon", "mlflow"


class UnsafeFolderError(MlwayError):
    """The folder of the sockets could be somebody else's."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder} is not a folder that only you can enter.\nHint: look who made it, then remove it.")


@dataclass(frozen=True)
class Service:
    """One program to keep running."""

    name: str
    command: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    starts_at_once: bool = False


def build_services(environment: Environment, environment_name: str) -> list[Service]:
    """Ray, the gRPC server, Dagster's web server and daemon, MLflow."""
    paths, ports = local_paths(environment), environment.ports
    programs = Path(sys.executable).parent
    workspace = ("-w", str(PROJECT_ROOT / "workspace.yaml"))
    shared = _shared_variables(environment, environment_name)
    dagster = shared | dagster_variables(paths)
    return [
        # Serving takes longest to start and must answer first; what people look at follows once it does.
        ray_node(environment, environment_name),
        Service(GRPC, (str(programs / "python"), "-m", "serving.grpc_server"), shared),
        Service(
            DAGSTER,
            (str(programs / "dagster-webserver"), "-h", "127.0.0.1", "-p", str(ports.dagster), *workspace),
            dagster,
        ),
        Service(DAEMON, (str(programs / "dagster-daemon"), "run", *workspace), dagster),
        Service(MLFLOW, _mlflow_command(environment, programs), shared | {"MLFLOW_DISABLE_TELEMETRY": "true"}),
    ]


def ray_node(
    environment: Environment, environment_name: str, address: str = LOOPBACK, join: str | None = None
) -> Service:
    """A node of the Ray cluster that serves: the head, or one that joins the head at `join`, HOST:PORT.

    `address` is where other nodes reach this one; at 127.0.0.1 none does.
    """
    paths = local_paths(environment)
    variables = _shared_variables(environment, environment_name) | _ray_variables(environment, paths, address)
    return Service(RAY, _ray_command(environment, paths, address, join), variables, starts_at_once=True)


def _shared_variables(environment: Environment, environment_name: str) -> dict[str, str]:
    return {
        "MLWAY_ENVIRONMENT": environment_name,
        "MLWAY_STATE": str(environment.state),
        "MLWAY_CONFIGS": str(configs_folder().resolve()),
        "MLWAY_PORTS": ",".join(f"{name}={number}" for name, number in environment.ports.model_dump().items()),
        MARK: local_paths(environment).mark,
        "TZ": "UTC",
        "PYTHONPATH": str(PROJECT_ROOT),
        "OMP_WAIT_POLICY": "passive",
    }


def required_ports(environment: Environment) -> dict[str, int]:
    """Port name to number, of every port that must be free. Ray takes eleven more after its own."""
    ports = environment.ports
    return ports.model_dump() | {f"ray_head+{n}": ports.ray_head + n for n in range(1, 12)}


def prepare(environment: Environment) -> None:
    """Make the folders, Ray's token, and the short paths that sockets need."""
    paths = local_paths(environment)
    for folder in (paths.logs, paths.run, paths.state / "ray"):
        folder.mkdir(parents=True, exist_ok=True)
    paths.state.chmod(0o700)
    paths.sockets.mkdir(mode=0o700, exist_ok=True)
    found = paths.sockets.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077:
        raise UnsafeFolderError(paths.sockets)
    link = paths.sockets / "ray"
    link.unlink(missing_ok=True)
    link.symlink_to(paths.state / "ray")
    for session in (paths.state / "ray").glob("session_*"):
        if session.is_symlink():
            session.unlink()
        else:
            shutil.rmtree(session)
    (paths.state / "ray" / "ray_current_cluster").unlink(missing_ok=True)
    (paths.sockets / "h").mkdir(mode=0o700, exist_ok=True)
    endpoints = {name: product.endpoint for name, product in load_project().products.items()}
    write_haproxy(paths.run / "haproxy", {GATEWAY: GATEWAY_ENDPOINT, **endpoints})
    secret = environment.ray.token_secret
    if secret is not None:
        _write_token(paths.ray_token, resolve_secret(secret))
    elif not paths.ray_token.exists():
        _write_token(paths.ray_token, secrets.token_hex(32))


def _write_token(file: Path, token: str) -> None:
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as output:
        output.write(token)


def _ray_variables(environment: Environment, paths: LocalPaths, address: str) -> dict[str, str]:
    """Ray's settings: HAProxy ingress, loopback, token, no telemetry, ports out of the way of a second cluster."""
    ports, haproxy = environment.ports, paths.sockets / "h"
    base = ports.ray_head
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(paths.ray_token),
        "RAY_USAGE_STATS_ENABLED": "0",
        # Without "0", which lets no other node join, 127.0.0.1 is replaced by the machine's outside address.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0" if address == LOOPBACK else "1",
        # A node that is stopped has nowhere to drain to.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        # Ray's workers would give way to every other process of the machine (15, by default): replicas answer people.
        "RAY_worker_niceness": "0",
        # A replica's frames have a few rows: handing them to other threads takes longer than the work.
        "POLARS_MAX_THREADS": "1",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        # Predictions are safe to repeat.
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
        "RAY_SERVE_HAPROXY_NBTHREAD": "2",
        # A dead HAProxy is replaced after three checks that fail; they are 10 s apart by default.
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "2",
        # Else a Python process counts every request again, at a tenth of what answering takes. HAProxy's own exporter
        # and the replicas count them anyway.
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports.haproxy_metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports.haproxy_stats),
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(paths.run / "haproxy"),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(haproxy / "metrics.sock"),
        # Deletions and rollouts wait this long, 30 s by default.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "3",
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(base + 10),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(base + 11),
        "AUTOSCALER_METRIC_PORT": str(base + 8),
        "DASHBOARD_METRIC_PORT": str(base + 9),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(base + 200),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(base + 299),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(base + 300),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(base + 399),
    }


def supervisor_config(services: list[Service], paths: LocalPaths) -> str:
    """Supervisord's configuration."""
    socket = paths.sockets / "supervisor.sock"
    sections = [
        f"[supervisord]\nnodaemon=true\nlogfile={paths.logs / 'supervisor.log'}\n"
        f"pidfile={paths.run / 'supervisord.pid'}\nchildlogdir={paths.logs}\nidentifier=mlway-{paths.mark}",
        f"[unix_http_server]\nfile={socket}\nchmod=0600",
        "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
        *(_section(service, paths) for service in services),
    ]
    return "\n\n".join(sections) + "\n"


def _section(service: Service, paths: LocalPaths) -> str:
    variables = ",".join(f'{name}="{_escaped(value)}"' for name, value in service.variables.items())
    command = " ".join(f'"{_escaped(word)}"' for word in service.command)
    return (
        f"[program:{service.name}]\ncommand={command}\ndirectory={_escaped(str(PROJECT_ROOT))}\n"
        f"environment={variables}\n"
        f"stdout_logfile={_escaped(str(paths.logs / service.name))}.log\nredirect_stderr=true\n"
        f"stdout_logfile_backups=1\nautostart={str(service.starts_at_once).lower()}\n"
        "stopsignal=TERM\nstopasgroup=false\nkillasgroup=true\nstopwaitsecs=20\n"
        "startsecs=3\nstartretries=3\nautorestart=true"
    )


def _escaped(text: str) -> str:
    return text.replace("%", "%%").replace('"', '\\"')


def _ray_command(environment: Environment, paths: LocalPaths, address: str, join: str | None) -> tuple[str, ...]:
    base = environment.ports.ray_head
    head = (
        "--head",
        f"--port={base}",
        "--include-dashboard=true",
        f"--dashboard-host={address}",
        f"--dashboard-port={environment.ports.ray_dashboard}",
        f"--ray-client-server-port={base + 7}",
        "--no-monitor",
    )
    return (
        str(Path(sys.executable).parent / "ray"),
        "start",
        *(head if join is None else (f"--address={join}",)),
        "--block",
        f"--node-ip-address={address}",
        f"--dashboard-agent-listen-port={base + 1}",
        f"--dashboard-agent-grpc-port={base + 2}",
        f"--runtime-env-agent-port={base + 3}",
        f"--metrics-export-port={base + 4}",
        f"--object-manager-port={base + 5}",
        f"--node-manager-port={base + 6}",
        f"--min-worker-port={base + 100}",
        f"--max-worker-port={base + 199}",
        "--include-log-monitor=false",
        f"--temp-dir={paths.sockets / 'ray'}",
        f"--object-store-memory={environment.ray.object_store_megabytes * 1_000_000}",
        "--disable-usage-stats",
        "--log-color=false",
    )


def _mlflow_command(environment: Environment, programs: Path) -> tuple[str, ...]:
    experiments = environment.experiments
    return (
        str(programs / "mlflow"),
        "server",
        "--backend-store-uri",
        experiments.tracking_uri,
        "--artifacts-destination",
        experiments.artifacts,
        "--host",
        "127.0.0.1",
        "--port",
        str(environment.ports.mlflow),
        "--workers",
        "1",
    )

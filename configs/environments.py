"""WHERE it runs: the type of `configs/environments/*.yaml`. Holds names of secrets, never secrets."""

from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from configs.schema import Frozen, Name, SecretName


class SystemClock(Frozen):
    """Time is the machine's."""

    kind: Literal["system"]


class ReplayClock(Frozen):
    """Time stands at a recorded moment."""

    kind: Literal["replay"]
    at: AwareDatetime


class Days(Frozen):
    """Event days the lake keeps; without a last day it grows with the clock."""

    first: date
    last: date | None = None


class Lake(Frozen):
    """The Delta lake."""

    uri: str
    storage_options: dict[str, str] = {}
    storage_secrets: dict[str, SecretName] = {}

    def table_uri(self, layer: str, table: str) -> str:
        """Where a table lives."""
        return f"{self.uri.rstrip('/')}/{layer}/{table}"


class SqliteOnlineStore(Frozen):
    """The embedded online store: one file, for one machine."""

    kind: Literal["sqlite"]
    path: str = Field(description="SQLite file; a relative path starts at the project's root.")


class RedisOnlineStore(Frozen):
    """The online store of many machines: one Redis server, or one primary with replicas behind one address."""

    kind: Literal["redis"]
    host: str
    port: int = Field(default=6379, ge=1, le=65_535)
    database: int = Field(default=0, ge=0)
    tls: bool = Field(default=False, description="Encrypt, and check the server's certificate.")
    ca_file: str | None = Field(default=None, description="PEM file of who signed it; by default the system's list.")
    username: str | None = None
    password_secret: SecretName | None = None
    timeout_milliseconds: int = Field(
        default=250, ge=1, description="A read or a connect that takes longer has failed. Writes get forty times that."
    )
    attempts: int = Field(default=2, ge=1, le=10, description="Tries of a read, each on a new connection.")

    @model_validator(mode="after")
    def _check_what_would_be_ignored(self) -> Self:
        if self.ca_file is not None and not self.tls:
            raise ValueError("`ca_file` checks a certificate, which there is none of without `tls: true`")
        if self.username is not None and self.password_secret is None:
            raise ValueError("`username` signs in with a password: name its secret in `password_secret`")
        return self


OnlineStore = Annotated[SqliteOnlineStore | RedisOnlineStore, Field(discriminator="kind")]


class HistoricalJoins(Frozen):
    """How features of the past are joined to rows: for training sets and batch predictions."""

    execution: Literal["local", "ray"] = Field(
        default="local", description="local: in the process that asks. ray: time slices as tasks of a Ray cluster."
    )
    ray_address: str | None = Field(
        default=None, description="The cluster; `local` starts one on this machine. By default that of RAY_ADDRESS."
    )
    memory_megabytes: float = Field(
        default=1_500, ge=0, description="A join whose values take more is done in time slices."
    )
    slice_rows: int = Field(default=1_000_000, gt=0, description="Rows in a time slice.")


class FeatureStoreAddresses(Frozen):
    """Feast's registry and online store."""

    registry: str = Field(description="SQLAlchemy address.")
    online: OnlineStore = Field(description="Where endpoints read features.")
    history: HistoricalJoins = HistoricalJoins()


class ExperimentTracking(Frozen):
    """MLflow's metadata store and artifact folder."""

    tracking_uri: str
    artifacts: str


class Ports(Frozen):
    """Ports of the local services. Each can be overridden: `mlway up --port dagster=3001`."""

    serve: int = 8000
    grpc: int = 8001
    dagster: int = 3000
    mlflow: int = 5000
    ray_dashboard: int = 8265
    ray_head: int = 6399
    haproxy_metrics: int = 9101
    haproxy_stats: int = 8404


class RayCluster(Frozen):
    """The one-machine Ray cluster that serves."""

    object_store_megabytes: int = 100


class Promotion(Frozen):
    """Who moves the champion alias."""

    first_version: Literal["automatic", "manual"] = Field(
        description="automatic: the first version that passes the gate becomes champion. manual: a person promotes it."
    )


class Environment(Frozen):
    """One place to run. `{state}` and `{project}` in addresses stand for the state folder and the project's root."""

    name: Name
    state: Path = Field(description="Folder of all local state; relative paths start at the project's root.")
    clock: Annotated[SystemClock | ReplayClock, Field(discriminator="kind")]
    days: Days
    lake: Lake
    model_store: str = Field(description="Folder that holds the registered models' files.")
    feature_store: FeatureStoreAddresses
    experiments: ExperimentTracking
    ports: Ports = Ports()
    ray: RayCluster = RayCluster()
    promotion: Promotion

"""WHERE it runs: the type of `configs/environments/*.yaml`. Holds names of secrets, never secrets."""

from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from configs.access import EndpointAccess
from configs.schema import Frozen, Name, SecretName
from configs.telemetry import Telemetry


class SystemClock(Frozen):
    """Time is the machine's."""

    kind: Literal["system"]


class ReplayClock(Frozen):
    """Time stands at a recorded moment, until `mlway advance` moves it on."""

    kind: Literal["replay"]
    at: AwareDatetime
    moved: str = Field(default="{state}/clock", description="File with the moment that time was moved on to.")


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
    """The Ray cluster that serves: on this machine alone unless said otherwise."""

    object_store_megabytes: int = 100
    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Where endpoints and replicas listen, on every node. Replicas on other machines are reached at "
        "0.0.0.0 only: requests ask for a key, but come without TLS.",
    )
    ingress: Literal["head_node", "every_node"] = Field(
        default="head_node", description="Which nodes take requests: put a load balancer before `every_node`."
    )
    dashboard: str | None = Field(
        default=None,
        pattern=r"^https?://[^/]+$",
        description="Address of the head node's dashboard, such as http://ray-head:8265; by default on this machine.",
    )
    token_secret: SecretName | None = Field(
        default=None, description="The secret with the cluster's token; by default a file that `mlway up` makes."
    )


class Trials(Frozen):
    """Where the trials of a search are evaluated. It changes how long that takes, and nothing else."""

    execution: Literal["local", "ray"] = Field(
        default="local", description="local: in processes of this machine. ray: as tasks of a Ray cluster, a core each."
    )
    workers: int | None = Field(
        default=None, ge=1, description="Local processes; left out, one for each core. 1: in the process that trains."
    )
    ray_address: str | None = Field(
        default=None, description="The cluster; `local` starts one on this machine. By default that of RAY_ADDRESS."
    )


class Promotion(Frozen):
    """Who moves the champion alias."""

    first_version: Literal["automatic", "manual"] = Field(
        description="automatic: the first version that passes the gate becomes champion. manual: a person promotes it."
    )
    later_versions: Literal["automatic", "manual"] = Field(
        default="manual",
        description="automatic: so does a later one that has shown the gate's `improvement` over the champion; without "
        "that rule a person promotes it.",
    )


class Decisions(Frozen):
    """The decision log: where and how every answer of an endpoint is recorded."""

    folder: str = Field(
        default="{state}/decisions",
        description="Folder of the replicas' segments, on a disk that the graph sees too.",
    )
    segment_megabytes: float = Field(default=16, gt=0, description="A segment that is larger is closed.")
    durability: Literal["process", "disk"] = Field(
        default="process",
        description="What an answered decision survives. process: the end of its replica, whatever ends it. disk: the "
        "loss of power too, at the price of a flush for each request.",
    )
    pii: Literal["omit", "hash"] = Field(
        default="omit",
        description="Personal data, by the tags of feature files and `request_pii` of products, is left out, or stands "
        "as its HMAC-SHA256. Without the key it is left out.",
    )
    pii_secret: SecretName | None = Field(default=None, description="Secret: the key of `pii: hash`.")
    retention_days: int | None = Field(
        default=None,
        ge=0,
        description="Closed segments whose records lie in the lake are deleted so many days after their last answer. "
        "By default never.",
    )

    @model_validator(mode="after")
    def _check_that_hashes_have_a_key(self) -> Self:
        if (self.pii == "hash") != (self.pii_secret is not None):
            raise ValueError("`pii: hash` and `pii_secret`, the name of its key, go together")
        return self


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
    trials: Trials = Trials()
    promotion: Promotion
    first_product: Name | None = Field(
        default=None, description="What `mlway up` trains and asks before the others; left out, the first by name."
    )
    access: EndpointAccess = EndpointAccess()
    decisions: Decisions = Decisions()
    training_requests: str = Field(
        default="{state}/training_requests",
        description="Folder of requests to train, which endpoints write and the graph reads.",
    )
    telemetry: Telemetry = Telemetry()

    @model_validator(mode="after")
    def _nodes_share_what_endpoints_leave_for_the_graph(self) -> Self:
        kept = {"decisions.folder": self.decisions.folder, "training_requests": self.training_requests}
        for field, folder in kept.items():
            # The default still has the placeholder, what a file says the folder itself.
            is_own = folder.startswith("{state}") or Path(folder).is_relative_to(self.state)
            if self.ray.ingress == "every_node" and is_own:
                raise ValueError(
                    f"`{field}` lies in each node's own state folder, where the graph sees that of one node alone: "
                    "with `ray.ingress: every_node`, name a folder that all nodes share"
                )
        return self

    @property
    def access_database(self) -> str:
        """Address of the store of API keys, also where the file leaves it out."""
        return self.access.database.replace("{state}", str(self.state))

    @property
    def dashboard_address(self) -> str:
        """Where Ray's REST API is."""
        return self.ray.dashboard or f"http://127.0.0.1:{self.ports.ray_dashboard}"

    @property
    def training_requests_folder(self) -> Path:
        """Folder of the requests to train that wait."""
        return Path(self.training_requests.replace("{state}", str(self.state)))

    @property
    def decisions_folder(self) -> Path:
        """Folder of the decision log."""
        return Path(self.decisions.folder.replace("{state}", str(self.state)))

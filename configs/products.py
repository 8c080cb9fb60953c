"""WHAT is predicted: the type of `configs/products/*.yaml`."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from configs.algorithms import ALGORITHMS
from configs.cards import Card
from configs.gates import PromotionGate
from configs.monitoring import Monitoring
from configs.retraining import Retraining
from configs.schema import Description, Duration, Frozen, Name, Owner
from configs.search import Value
from configs.splits import Split
from configs.tasks import LOWER_IS_BETTER, METRICS, OBJECTIVES, Baseline, Interval, Metric, Objective, Ranking, Task
from configs.training import Training

RequestType = Literal["string", "int64", "float64", "boolean", "timestamp"]


class Population(Frozen):
    """Which rows of a curated table the product predicts, and what a request for one of them carries."""

    table: Name
    request: dict[str, RequestType] = Field(description="Columns that a request carries.", min_length=1)
    event_time: str = Field(description="The request's timestamp of the event that is predicted.")
    horizon: Duration = Field(description="Features are as known this long before the event.")
    request_pii: tuple[str, ...] = Field(
        default=(),
        description="Fields of the request that tell something of a person, such as an e-mail address: the decision "
        "log hides them. Join keys of feature groups that are tagged `pii` it hides anyway.",
    )

    @model_validator(mode="after")
    def _personal_fields_are_in_the_request(self) -> "Population":
        unknown = sorted(set(self.request_pii) - set(self.request))
        if unknown:
            raise ValueError(f"request_pii names {', '.join(unknown)}, which `request` does not have")
        return self


class Label(Frozen):
    """What is learned, from which rows, and when it became known."""

    expression: str = Field(description="Polars SQL over the population's table; null where there is no label.")
    known_at: str


class OnlineSkew(Frozen):
    """How far the values that endpoints read may lie from what the training set holds."""

    maximum_outside_share: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Most of a feature's online values that may lie outside the training set's range, or, of texts, be "
        "none of its values.",
    )
    maximum_missing_share_difference: float = Field(
        default=0.3, ge=0, le=1, description="Most by which the share of nulls online may exceed the training set's."
    )
    maximum_skewed_share: float = Field(
        default=0.34,
        ge=0,
        le=1,
        description="Most of the features that may be past a limit: the world may change, a store may not be broken.",
    )


class Endpoint(Frozen):
    """How the product is served."""

    replica_cpus: float = Field(
        default=0.25,
        gt=0,
        description="Cores that Ray sets aside for a replica; it may use more while others are idle.",
    )
    min_replicas: int = Field(default=1, ge=1)
    max_replicas: int = Field(default=2, ge=1)
    max_replicas_per_node: int | None = Field(
        default=None, ge=1, le=100, description="So many on one node, so that the loss of a node leaves others; any."
    )
    target_ongoing_requests: int = Field(default=8, ge=1, description="Requests in flight per replica to aim at.")
    upscale_delay_seconds: float = Field(
        default=5, ge=0, description="How long more replicas must be needed before they are started."
    )
    downscale_delay_seconds: float = Field(
        default=60, ge=0, description="How long fewer replicas must be enough before one is stopped."
    )
    max_ongoing_requests: int = Field(default=32, ge=1, description="Requests that a replica has in hand at once.")
    max_queued_requests: int = Field(
        default=256, ge=1, description="How many more may wait for it; all others are refused with 503."
    )
    deadline_seconds: float = Field(
        default=1,
        gt=0,
        description="How long a request may wait for its turn. Where those in hand take more than half of it, unless "
        "they are fewer than target_ongoing_requests, another is refused at once; one that has waited longer is "
        "refused instead of computed.",
    )
    max_instances: int = Field(default=1000, ge=1, description="Most instances in one request.")
    max_body_bytes: int = Field(default=1_000_000, ge=1, description="Longest body of a request.")
    body_seconds: float = Field(default=10, gt=0, description="How long a request's body may take to arrive.")
    cache_entries: int = Field(
        default=10_000, ge=0, description="Feature vectors whose scores a replica remembers, of each version; 0: none."
    )
    without_online_store: Literal["refuse", "answer"] = Field(
        default="refuse",
        description="While the online store does not answer. refuse: 503. answer: from the request alone, marked "
        "`degraded`.",
    )

    @model_validator(mode="after")
    def _may_have_as_many_as_it_must(self) -> "Endpoint":
        if self.min_replicas > self.max_replicas:
            raise ValueError("`min_replicas` must not be more than `max_replicas`")
        return self

    @property
    def most_requests(self) -> int:
        """Requests that a replica has in hand at most."""
        return self.max_ongoing_requests + self.max_queued_requests


_ORDERED = ("int64", "float64", "timestamp")
_RESERVED = ("docs", "v1", "v2")
"""First parts of paths that the gateway answers."""


def _require_metric(field: str, metric: Metric | None, task: Task | None) -> None:
    """A task that is wrong itself, and so None here, is told of in its own place."""
    if task is not None and metric not in (None, *METRICS[task]):
        raise ValueError(f"`{field}` {metric} is not of this task: use one of {', '.join(METRICS[task])}")


class ModelProduct(Frozen):
    """One model product, from its population to its endpoint."""

    name: Name
    description: Description
    owner: Owner
    task: Task
    interval: Interval | None = Field(default=None, description="Regression: the interval to give beside the value.")
    ranking: Ranking | None = Field(
        default=None, validate_default=True, description="Ranking: what makes up a query, and what is relevant in it."
    )
    population: Population
    label: Label
    features: tuple[Name, ...] = Field(min_length=1, description="Feature groups.")
    exclude: tuple[Name, ...] = Field(default=(), description="Features of these groups that the model does not see.")
    training: Training
    gate: PromotionGate
    online_skew: OnlineSkew = OnlineSkew()
    monitoring: Monitoring = Monitoring()
    retraining: Retraining = Retraining()
    baseline: Baseline
    endpoint: Endpoint = Endpoint()
    card: Card = Card()

    @field_validator("name")
    @classmethod
    def _path_is_free(cls, value: str) -> str:
        if value in _RESERVED:
            raise ValueError(f"/{value} is an address of the standard protocols: choose another name")
        return value

    @field_validator("interval")
    @classmethod
    def _only_a_regression_has_an_interval(cls, value: Interval | None, info: ValidationInfo) -> Interval | None:
        if value is not None and info.data.get("task") != "regression":
            raise ValueError("only the task regression has an interval: take it out")
        return value

    @field_validator("ranking")
    @classmethod
    def _only_a_ranking_has_queries(cls, value: Ranking | None, info: ValidationInfo) -> Ranking | None:
        if (value is not None) != (info.data.get("task") == "ranking"):
            raise ValueError("the task ranking needs `ranking` with `groups` and `relevance`; no other task has it")
        return value

    @field_validator("training")
    @classmethod
    def _objective_is_of_the_task(cls, value: Training, info: ValidationInfo) -> Training:
        known = OBJECTIVES[info.data["task"]] if "task" in info.data else ()
        if known and value.objective not in (None, *known):
            raise ValueError(f"`objective` {value.objective} is not of this task: use one of {', '.join(known)}")
        return value

    @field_validator("training")
    @classmethod
    def _algorithms_can_learn_the_task(cls, value: Training, info: ValidationInfo) -> Training:
        known = ALGORITHMS[info.data["task"]] if "task" in info.data else ()
        unable = [name for name in value.algorithms.names if name not in known]
        if known and unable:
            task = info.data["task"]
            raise ValueError(f"`algorithms.{unable[0]}` cannot learn the task {task}: use {', '.join(known)}")
        return value

    @field_validator("gate")
    @classmethod
    def _rules_are_of_the_task(cls, value: PromotionGate, info: ValidationInfo) -> PromotionGate:
        task = info.data.get("task")
        _require_metric("metric", value.metric, task)
        _require_metric("improvement.metric", value.improvement.metric if value.improvement else None, task)
        if value.coverage is not None and info.data.get("interval") is None:
            raise ValueError("`coverage` is that of an interval: declare `interval`, or take it out")
        has_opportunity = value.fairness is not None and value.fairness.maximum_opportunity_difference is not None
        if task not in (None, "binary") and (value.calibration is not None or has_opportunity):
            raise ValueError("`calibration` and `maximum_opportunity_difference` are of the task binary: take them out")
        return value

    @field_validator("monitoring")
    @classmethod
    def _is_of_the_task_and_its_inputs(cls, value: Monitoring, info: ValidationInfo) -> Monitoring:
        _require_metric("quality.metric", value.quality.metric, info.data.get("task"))
        known = info.data["population"].request if "population" in info.data else value.quality.slices.by
        if unknown := sorted(set(value.quality.slices.by) - set(known)):
            raise ValueError(
                f"`quality.slices.by` names {', '.join(unknown)}, which population.request does not have: use some of "
                f"{', '.join(known)}"
            )
        groups = info.data.get("features", value.feature_freshness.maximum_ages)
        if unknown := sorted(set(value.feature_freshness.maximum_ages) - set(groups)):
            raise ValueError(
                f"`feature_freshness.maximum_ages` names {', '.join(unknown)}, which is none of this product's "
                f"`features`: use some of {', '.join(groups)}"
            )
        return value

    @field_validator("baseline")
    @classmethod
    def _baseline_is_of_the_task(cls, value: Baseline, info: ValidationInfo) -> Baseline:
        task = info.data.get("task")
        if task == "binary" and not 0 <= value.score <= 1:
            raise ValueError("`score` must lie between 0 and 1: the historical rate")
        if task != "ranking" and "score" not in value.model_fields_set:
            raise ValueError("`score` is missing: give the historical rate or value")
        if (value.lower is not None) != (info.data.get("interval") is not None):
            raise ValueError("`lower` and `upper` go with `interval`: give both, or neither")
        kind = info.data["population"].request.get(value.order_by) if "population" in info.data else None
        if value.order_by is not None and (task != "ranking" or kind not in _ORDERED):
            raise ValueError(
                "`order_by` must name a number or timestamp among population.request, and only in a ranking"
            )
        return value

    @model_validator(mode="after")
    def _event_time_is_in_the_request(self) -> "ModelProduct":
        population = self.population
        if population.request.get(population.event_time) != "timestamp":
            raise ValueError("population.event_time must be a timestamp among population.request")
        return self

    def at(self, now: datetime) -> "ModelProduct":
        """The product with the parts of a training that begins now."""
        return self.with_split(self.training.split.at(now))

    def with_split(self, split: Split) -> "ModelProduct":
        """The product with other parts."""
        return self.model_copy(update={"training": self.training.model_copy(update={"split": split})})

    def with_parameters(self, parameters: Mapping[str, Value]) -> "ModelProduct":
        """The product with other parameters for LightGBM."""
        algorithms = self.training.algorithms.model_copy(update={"lightgbm": dict(parameters)})
        return self.model_copy(update={"training": self.training.model_copy(update={"algorithms": algorithms})})

    def without_interval(self) -> "ModelProduct":
        """The product as it gives its score alone."""
        return self.model_copy(update={"interval": None})

    @property
    def objective(self) -> Objective:
        """What training minimises."""
        return self.training.objective or OBJECTIVES[self.task][0]

    @property
    def watched_metric(self) -> str:
        """What quality on late labels is watched in; the name under which it is recorded."""
        metric = self.monitoring.quality.metric
        return self.gate.metric_name if metric in (None, self.gate.metric) else str(metric)

    @property
    def watched_slices(self) -> tuple[str, ...]:
        """The request's fields by whose values quality on late labels is watched."""
        gate = self.gate.slices.by if self.gate.slices else ()
        return self.monitoring.quality.slices.by or tuple(name for name in gate if name in self.population.request)

    @property
    def is_watched_metric_lower_better(self) -> bool:
        """Whether less of it is better."""
        return (self.monitoring.quality.metric or self.gate.metric) in LOWER_IS_BETTER

    @property
    def card_slices(self) -> tuple[str, ...]:
        """What the model card shows metrics by: what is declared for it, else what the gate looks at."""
        asked = (self.gate.slices, self.gate.fairness)
        return self.card.slices or tuple(dict.fromkeys(name for each in asked if each is not None for name in each.by))

    @property
    def route(self) -> str:
        """Path of the endpoint."""
        return "/" + self.name.replace("_", "-")

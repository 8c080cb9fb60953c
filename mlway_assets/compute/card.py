"""What a model card says: the facts of one registered version, as plain values that are written and read as JSON."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from configs.cards import Card
from configs.schema import Frozen
from mlway_assets.compute.contribution_summary import ContributionSummary


class PartFacts(Frozen):
    """One part of the training set."""

    part: Literal["train", "validate", "test"]
    rows: int
    first: datetime | None = Field(description="Earliest and latest event in it.")
    last: datetime | None
    is_judged: bool = Field(description="Whether the gate looked at it.")


class DataFacts(Frozen):
    """What the version has learned from."""

    training_set: int
    sha256: str
    rows: int
    inputs: dict[str, int] = Field(description="The version of each table that was read.")
    label: str
    horizon: str
    features: tuple[str, ...]
    feature_definitions: str
    git_commit: str
    parts: tuple[PartFacts, ...]


class MetricFacts(Frozen):
    """A metric as MLflow has it for the run; an interval where one was computed."""

    metric: str
    validation: float | None
    test: float | None
    validation_interval: tuple[float, float] | None = None
    test_interval: tuple[float, float] | None = None


class SliceFacts(Frozen):
    """The rows of the test part with one value of one column."""

    column: str
    value: str
    rows: int
    metrics: dict[str, float]


class FairnessFacts(Frozen):
    """How unlike the groups of one column are served in the test part."""

    column: str
    what: Literal["gap", "opportunity"]
    seen: float
    between: str


class RuleFacts(Frozen):
    """A rule of the gate: what was seen beside what was expected when the version was registered."""

    subject: str
    name: str
    seen: float
    bound: str
    limit: float
    is_met: bool


class Approval(Frozen):
    """Somebody made the version champion. `at` and `by` are None where the alias was moved and that not recorded."""

    at: datetime | None
    by: str | None
    note: str | None = None


class ModelCard(Frozen):
    """All of it. But for `approvals` it never changes once the version is registered."""

    product: str
    version: int
    description: str
    owner: str
    task: str
    digest: str
    run_id: str
    registered_at: datetime
    use: Card
    reason: str | None = Field(default=None, description="Why it was trained; older cards do not say it.")
    algorithm: str
    parameters: dict[str, str]
    data: DataFacts
    interval_confidence: float
    metrics: tuple[MetricFacts, ...]
    gate_metric: str
    slices: tuple[SliceFacts, ...]
    fairness: tuple[FairnessFacts, ...]
    contributions: ContributionSummary | None
    gate: tuple[RuleFacts, ...]
    approvals: tuple[Approval, ...] = ()

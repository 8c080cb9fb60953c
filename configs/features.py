"""Features, declared once: the type of `configs/features/*.yaml`.

Expressions are Polars SQL, which cannot read files, call Python or loop. How they are evaluated: see
`feature_repo/aggregations.py` and `feature_repo/request_features.py`.
"""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, model_validator

from configs.schema import ColumnType, Description, Duration, Frozen, Name, Owner, format_duration

FeatureType = Literal["int64", "float64", "string", "boolean"]
AggregationFunction = Literal[
    "count",
    "sum",
    "mean",
    "standard_deviation",
    "minimum",
    "maximum",
    "rate",
    "first",
    "last",
    "distinct_count",
    "quantile",
]
ARITHMETIC = ("sum", "mean", "standard_deviation")
"""Functions that add values up. They do so in whole numbers, whose order of addition does not matter."""
SELECTIONS = ("minimum", "maximum", "first", "last")
"""Functions that pick one of the values, whatever its type."""


class PythonExpression(Frozen):
    """Where Polars SQL is not enough: a Python function without parameters that returns a Polars expression."""

    python: str = Field(
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="Import path, such as my_package.distances:great_circle_km.",
    )


Expression = Annotated[
    str | PythonExpression,
    Field(description="Polars SQL over the columns at hand, or {python: 'package.module:function'}."),
]
Tag = Literal["pii", "deprecated"]
"""pii: tells something of a person. deprecated: on its way out, no product should begin to use it."""
Tags = Annotated[tuple[Tag, ...], Field(description="Marks, shown wherever the feature is.")]


class Aggregation(Frozen):
    """One statistic of the rows in a window."""

    function: AggregationFunction
    of: Expression | None = Field(
        default=None,
        description="What is aggregated; for `rate`, a condition. Rows where it is null, NaN or infinite are not "
        "counted.",
    )
    where: Expression | None = Field(default=None, description="Condition; only rows that meet it are aggregated.")
    decimals: int | None = Field(
        default=None,
        ge=0,
        le=9,
        description="For sum, mean and standard_deviation of fractions: round each value to so many decimals first. "
        "They are then added as whole numbers, so that the result is the same in any order.",
    )
    quantile: float | None = Field(
        default=None, ge=0, le=1, description="For quantile: which one; 0.5 is the median. Interpolated linearly."
    )
    value_type: FeatureType | None = Field(
        default=None, description="For first, last, minimum and maximum: the type of the value; by default int64."
    )
    description: str = ""
    tags: Tags = ()

    @model_validator(mode="after")
    def _has_what_its_function_takes(self) -> "Aggregation":
        if (self.of is None) != (self.function == "count"):
            raise ValueError("every function but count takes `of`; count takes none")
        if (self.quantile is None) != (self.function != "quantile"):
            raise ValueError("function quantile takes `quantile`; no other does")
        if self.decimals is not None and self.function not in ARITHMETIC:
            raise ValueError(f"`decimals` belongs to {', '.join(ARITHMETIC)}")
        if self.value_type is not None and self.function not in SELECTIONS:
            raise ValueError(f"`value_type` belongs to {', '.join(SELECTIONS)}")
        return self

    @property
    def type(self) -> FeatureType:
        """The feature's type: counts and sums of whole numbers are whole; means, rates and quantiles are not."""
        if self.function in SELECTIONS:
            return self.value_type or "int64"
        if self.function in ("count", "distinct_count") or (self.function == "sum" and self.decimals is None):
            return "int64"
        return "float64"

    @property
    def of_nothing(self) -> int | None:
        """The value when the window is empty: counts are zero, everything else is null."""
        return 0 if self.function in ("count", "distinct_count") else None


class _Group(Frozen):
    name: Name
    description: Description
    owner: Owner | None = Field(default=None, description="Who answers for it; the catalogue warns where nobody does.")
    tags: Tags = ()


class _TableGroup(_Group):
    entity: Name = Field(description="What the join keys identify, such as `aircraft`.")
    join_keys: dict[str, Literal["string", "int64"]] = Field(min_length=1, description="Columns that tell it apart.")
    table: Name = Field(description="A curated table.")
    where: Expression | None = Field(default=None, description="Condition; other rows are left out.")


class _EventGroup(_TableGroup):
    known_at: str = Field(description="Column: when a row became known. Rows without it are left out.")
    event_key: tuple[str, ...] = Field(
        default=(),
        description="Columns that tell an event from another. Of rows with one event key the first known counts. "
        "A row with a null in it is an event of its own. Empty: every row is an event. A stream remembers every event "
        "key that it has seen, so its state grows with their number.",
    )
    allowed_lateness: Duration = Field(
        default=timedelta(hours=1),
        description="From a stream: how long after its known_at a row may still arrive. A later one is refused there, "
        "and counts from the next build from the table.",
    )


class WindowedFeatures(_EventGroup):
    """Statistics of the rows that became known within (T - window, T], for every moment T."""

    kind: Literal["windowed"]
    windows: tuple[Duration, ...] = Field(min_length=1)
    aggregations: dict[Name, Aggregation] = Field(min_length=1)

    @property
    def time_to_live(self) -> timedelta:
        """The longest window: past it every window is empty, so an older value says nothing."""
        return max(self.windows)

    @property
    def parts(self) -> dict[str, tuple[Aggregation, timedelta]]:
        """Feature name to its aggregation and window, after which it is called."""
        return {
            f"{name}_{format_duration(window)}": (aggregation, window)
            for window in self.windows
            for name, aggregation in self.aggregations.items()
        }

    @property
    def types(self) -> dict[str, FeatureType]:
        """Feature name to type."""
        return {name: aggregation.type for name, (aggregation, _) in self.parts.items()}


class ColumnFeature(Frozen):
    """A feature computed from one row."""

    expression: Expression
    type: FeatureType
    description: str = ""
    tags: Tags = ()


class LatestFeatures(_EventGroup):
    """Values of the newest row known at T, no older than `time_to_live`."""

    kind: Literal["latest"]
    time_to_live: Duration
    features: dict[Name, ColumnFeature] = Field(min_length=1)

    @property
    def types(self) -> dict[str, FeatureType]:
        """Feature name to type."""
        return {name: feature.type for name, feature in self.features.items()}


class StaticFeatures(_TableGroup):
    """Attributes that are the same at every moment, such as the year an aircraft was built."""

    kind: Literal["static"]
    features: dict[Name, ColumnFeature] = Field(min_length=1)

    @property
    def time_to_live(self) -> timedelta:
        """Zero: never out of date."""
        return timedelta(0)

    @property
    def types(self) -> dict[str, FeatureType]:
        """Feature name to type."""
        return {name: feature.type for name, feature in self.features.items()}


class LocalTime(Frozen):
    """A timestamp of the request read as the clock on the wall."""

    of: str
    time_zone: str = Field(description="IANA name, such as America/New_York.")


class RequestFeatures(_Group):
    """Features computed from the request's own fields and from other features."""

    kind: Literal["request"]
    fields: dict[str, ColumnType] = Field(description="Request fields that the expressions use.")
    uses: dict[Name, tuple[Name, ...]] = Field(default={}, description="Feature group to the features of it in use.")
    local_times: dict[Name, LocalTime] = Field(default={}, description="Extra columns for the expressions.")
    features: dict[Name, ColumnFeature] = Field(min_length=1)

    @property
    def types(self) -> dict[str, FeatureType]:
        """Feature name to type."""
        return {name: feature.type for name, feature in self.features.items()}


EventFeatures = WindowedFeatures | LatestFeatures
TableFeatures = WindowedFeatures | LatestFeatures | StaticFeatures
FeatureGroup = Annotated[
    WindowedFeatures | LatestFeatures | StaticFeatures | RequestFeatures, Field(discriminator="kind")
]

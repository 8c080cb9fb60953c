"""Features, declared once: the type of `configs/features/*.yaml`.

Expressions are Polars SQL, which cannot read files, call Python or loop. How they are evaluated: see
`feature_repo/aggregations.py` and `feature_repo/request_features.py`.
"""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, model_validator

from configs.schema import ColumnType, Description, Duration, Frozen, Name, Owner, format_duration

FeatureType = Literal["int64", "float64", "string", "boolean"]
Tag = Literal["pii", "deprecated"]
"""pii: tells something of a person. deprecated: on its way out, no product should begin to use it."""
Tags = Annotated[tuple[Tag, ...], Field(description="Marks, shown wherever the feature is.")]


class Aggregation(Frozen):
    """One statistic of the rows in a window."""

    function: Literal["count", "sum", "mean", "standard_deviation", "minimum", "maximum", "rate", "last"]
    of: str | None = Field(
        default=None,
        description="A Polars SQL expression over the table's columns: whole numbers; for `rate`, a condition. "
        "Rows where it is null are not counted.",
    )
    description: str = ""
    tags: Tags = ()

    @model_validator(mode="after")
    def _all_but_count_aggregate_something(self) -> "Aggregation":
        if (self.of is None) != (self.function == "count"):
            raise ValueError("every function but count takes `of`; count takes none")
        return self

    @property
    def type(self) -> FeatureType:
        """The feature's type: whole numbers stay whole numbers; means, deviations and rates do not."""
        return "float64" if self.function in ("mean", "standard_deviation", "rate") else "int64"


class _Group(Frozen):
    name: Name
    description: Description
    owner: Owner | None = Field(default=None, description="Who answers for it; the catalogue warns where nobody does.")
    tags: Tags = ()


class _TableGroup(_Group):
    entity: Name = Field(description="What the join keys identify, such as `aircraft`.")
    join_keys: dict[str, Literal["string", "int64"]] = Field(min_length=1, description="Columns that tell it apart.")
    table: Name = Field(description="A curated table.")
    where: str | None = Field(default=None, description="Polars SQL condition; other rows are left out.")


class WindowedFeatures(_TableGroup):
    """Statistics of the rows that became known within (T - window, T], for every moment T."""

    kind: Literal["windowed"]
    known_at: str = Field(description="Column: when a row became known. Rows without it are left out.")
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

    expression: str = Field(description="Polars SQL over the columns at hand.")
    type: FeatureType
    description: str = ""
    tags: Tags = ()


class LatestFeatures(_TableGroup):
    """Values of the newest row known at T, no older than `time_to_live`."""

    kind: Literal["latest"]
    known_at: str = Field(description="Column: when a row became known. Rows without it are left out.")
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


TableFeatures = WindowedFeatures | LatestFeatures | StaticFeatures
FeatureGroup = Annotated[
    WindowedFeatures | LatestFeatures | StaticFeatures | RequestFeatures, Field(discriminator="kind")
]

"""What of a product is watched, and how much may change before somebody is told."""

from datetime import timedelta
from math import ceil

from pydantic import Field

from configs.schema import Duration, Frozen, Name
from configs.tasks import Metric


def whole_days(span: timedelta) -> int:
    """How many days it reaches into."""
    return ceil(span / timedelta(days=1))


class Drift(Frozen):
    """How far the newest days may lie from what the champion learned from.

    A week differs from many months even where nothing has changed. So a column has drifted where its population
    stability index is above `minimum_psi`, and above that of every week, say, of the months themselves. Their first
    weeks do not count, in which the longest feature window was not full yet.
    """

    window_days: int = Field(default=7, ge=1, le=92, description="The day itself and those before it.")
    minimum_rows: int = Field(
        default=500, ge=1, description="Of a window with fewer rows, or with days that lack, nothing is said."
    )
    minimum_psi: float = Field(
        default=0.2, gt=0, description="Below it no column has drifted, however steady it was before."
    )
    maximum_missing_share_difference: float = Field(
        default=0.1, ge=0, le=1, description="Most by which a column's share of missing values may have changed."
    )


class InputDrift(Drift):
    """Of the features that the champion sees, held against its training part."""

    maximum_unseen_share: float = Field(
        default=0.05, ge=0, le=1, description="Most of a text's values that training never saw."
    )
    maximum_drifted_share: float = Field(
        default=0.25, ge=0, le=1, description="Most of the features that may have drifted: some always do."
    )
    report_rows: int = Field(
        default=5_000, ge=100, le=100_000, description="Most rows of either side that the pictures of a report show."
    )


class Change(Frozen):
    """How soon a sudden change is told: a cumulative sum of the newest days beside those before them.

    The limit is such that days like those before, in any order, pass it with `false_alarm_probability` at all within
    `quiet_days` days.
    """

    reference_days: int = Field(default=42, ge=14, le=366, description="Days before the newest, with labels.")
    allowance: float = Field(
        default=0.5, ge=0, description="What a day may be worse without counting, in standard deviations of a day."
    )
    quiet_days: int = Field(default=60, ge=1, le=366)
    false_alarm_probability: float = Field(default=0.05, gt=0, lt=1)


class QualitySlices(Frozen):
    """Parts of the rows whose quality is watched apart, each against its own on the days that judged the champion."""

    by: tuple[str, ...] = Field(
        default=(), description="Fields of the request, each value a slice; left out, those of the gate's slices."
    )
    minimum_rows: int = Field(default=300, ge=2, description="Smaller slices of the newest days say nothing.")
    maximum_worsening: float = Field(
        default=0.25,
        ge=0,
        description="Most by which a slice may be worse, as a share of what it was. The `p_value` of all slices "
        "together is that of the whole.",
    )


class Quality(Frozen):
    """How good the champion is on late labels, held against the days by which it was judged: slowly, by the mean of
    `window_days`, and at once, by their sudden change.
    """

    metric: Metric | None = Field(default=None, description="Left out, the gate's.")
    window_days: int = Field(default=14, ge=2, le=92, description="The day itself and those before it.")
    label_delay: Duration = Field(
        default=timedelta(days=1),
        description="So long after a day's last event its labels may take. Younger days do not count: the labels that "
        "come first are no fair sample.",
    )
    minimum_labelled: int = Field(default=1, ge=1, description="Of a day with fewer rows with labels nothing is said.")
    minimum_labelled_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Of a day with fewer labels nothing is said, but that they are missing. What never has one, such "
        "as a cancelled flight, counts as missing.",
    )
    maximum_worsening: float = Field(
        default=0.05,
        ge=0,
        description="Most by which the mean of the days may be worse, as a share of the validation's.",
    )
    p_value: float = Field(
        default=0.01,
        gt=0,
        lt=1,
        description="How unlikely so bad days must be for a champion that is worse by no more than that: Welch's test.",
    )
    change: Change | None = Field(default=Change(), description="`null` where no sudden change is looked for.")
    slices: QualitySlices = QualitySlices()

    @property
    def days_waited(self) -> int:
        """The newest days that are looked at: as many as the window has, and those whose labels may still come."""
        return self.window_days + whole_days(self.label_delay)

    @property
    def days_before(self) -> int:
        """The days before these that say what is usual."""
        return 0 if self.change is None else self.change.reference_days


class ServedQuality(Frozen):
    """How good the answers were that endpoints gave, by the labels that are known since, decision by decision.

    Over the days, slices and time for labels that `quality` declares. Callers ask about fewer rows than all, so that no
    sudden change is looked for.
    """

    minimum_labelled: int = Field(
        default=50, ge=2, description="Of a day nothing is said on which fewer rows with labels were asked about."
    )
    longest_lead: Duration = Field(
        default=timedelta(days=7), description="How long before its event a row may be asked about to count."
    )
    sample_rows: int = Field(
        default=50_000, ge=100, description="About how many rows of a day's decisions are looked at, drawn by chance."
    )
    maximum_worsening: float = Field(
        default=0.1,
        ge=0,
        description="Most by which the mean of the days may be worse, as a share of what the champion was judged by.",
    )


class ServingSkew(Frozen):
    """What the endpoint's models saw, as it was logged, held against the lake's features as of the same moments.

    A value is behind where the lake has one that is younger than all that the online store had given of its group: the
    store was filled too seldom. Any other difference is a fault of some part of the way.
    """

    sample_rows: int = Field(default=500, ge=1, le=100_000, description="Rows of a day's decisions, drawn by chance.")
    minimum_rows: int = Field(default=20, ge=1, description="Of fewer nothing is said.")
    tolerance: float = Field(
        default=0.0, ge=0, lt=1, description="What a number may be off, as a share of the greater one; 0: nothing."
    )
    maximum_differing_share: float = Field(
        default=0.01, ge=0, le=1, description="Most of a feature's values that may differ without being behind."
    )
    maximum_behind_share: float = Field(
        default=0.5, ge=0, le=1, description="Most of a feature's values that may differ because they are behind."
    )


class FeatureFreshness(Frozen):
    """How old the values are that the endpoint answers with, group by group."""

    minimum_rows: int = Field(default=20, ge=1, description="Of fewer nothing is said.")
    maximum_expired_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Most rows for which all that a group knows is past its time to live, so that models saw nothing.",
    )
    maximum_ages: dict[Name, Duration] = Field(
        default={}, description="Feature group to the age that 95% of its values must not exceed, where there are any."
    )


class ServiceHealth(Frozen):
    """How the endpoint has answered, by its decision log, and by its request log where it runs on this machine."""

    minimum_requests: int = Field(
        default=0, ge=0, description="Fewer on a day are too few: who is always asked has fallen silent."
    )
    maximum_degraded_share: float = Field(
        default=0.01, ge=0, le=1, description="Most answers that may lack a part of the platform."
    )
    maximum_baseline_share: float = Field(
        default=0.01, ge=0, le=1, description="Most answers that the baseline may give instead of a model."
    )
    maximum_failed_share: float = Field(
        default=0.01, ge=0, le=1, description="Most requests that the endpoint itself may fail: status 500 and above."
    )
    maximum_milliseconds: float = Field(
        default=500, gt=0, description="Longest that 99% of the answers may take, from the request in hand to the log."
    )


class Monitoring(Frozen):
    """What is watched of a product."""

    input_drift: InputDrift = InputDrift()
    prediction_drift: Drift = Field(
        default=Drift(), description="Of the champion's scores, held against those of its training and validation part."
    )
    quality: Quality = Quality()
    served_quality: ServedQuality = ServedQuality()
    serving_skew: ServingSkew = ServingSkew()
    feature_freshness: FeatureFreshness = FeatureFreshness()
    service_health: ServiceHealth = ServiceHealth()

    @property
    def served_quality_limits(self) -> Quality:
        """Those of `quality`, as answers of endpoints are held to them."""
        served = self.served_quality
        own = {"minimum_labelled": served.minimum_labelled, "maximum_worsening": served.maximum_worsening}
        return self.quality.model_copy(update={**own, "change": None})

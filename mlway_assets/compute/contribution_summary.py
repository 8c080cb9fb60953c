"""The table of a model's contributions: each feature's part in the scores, beside the champion's on the same rows."""

from collections.abc import Mapping

from pydantic import Field

from configs.schema import Frozen
from mlway_assets.compute.contributions import Contributions, importance_shift


class FeatureContribution(Frozen):
    """One feature's part in the scores."""

    feature: str
    mean_absolute: float = Field(description="Of its contributions to the raw score.")
    share: float = Field(description="Of the sum over all features.")
    champion_share: float | None = Field(default=None, description="The champion's, on the same rows.")


class ContributionSummary(Frozen):
    """What a model's scores are made of, on a sample of the judged rows; the most important feature first."""

    rows: int
    bias: float
    features: tuple[FeatureContribution, ...]
    champion: int | None = Field(default=None, description="The version it was held against.")
    rank_correlation: float | None = None
    moved_share: float | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """How stable the importances are, by the names under which runs record it."""
        found = {"importance_rank_correlation": self.rank_correlation, "importance_moved_share": self.moved_share}
        return {name: value for name, value in found.items() if value is not None}


def summarised(
    found: Contributions, champion: int | None, champion_importance: Mapping[str, float] | None
) -> ContributionSummary:
    """The table, beside the champion's where that can score the same rows."""
    importance = found.importance
    shift = None if champion_importance is None else importance_shift(importance, champion_importance)
    ours, theirs = (_shares(each) for each in (importance, champion_importance or {}))
    return ContributionSummary(
        rows=len(found.added),
        bias=found.bias,
        features=tuple(
            FeatureContribution(
                feature=name,
                mean_absolute=mean,
                share=ours[name],
                champion_share=None if shift is None else theirs.get(name, 0.0),
            )
            for name, mean in importance.items()
        ),
        champion=None if shift is None else champion,
        rank_correlation=None if shift is None else shift.rank_correlation,
        moved_share=None if shift is None else shift.moved_share,
    )


def _shares(importance: Mapping[str, float]) -> dict[str, float]:
    total = sum(importance.values()) or 1.0
    return {name: mean / total for name, mean in importance.items()}

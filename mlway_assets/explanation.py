"""The explanation of a candidate: what its scores are made of, beside the champion's, kept with its run."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl
from pydantic import Field

from configs.products import ModelProduct
from configs.schema import Frozen
from mlway_assets.compute.contribution_plot import contribution_plot
from mlway_assets.compute.contributions import Contributions, contributions_of, importance_shift, sampled
from mlway_assets.registry import ModelVersion, Registry
from serving.scoring import load_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUMMARY_FILE = "explanation/contributions.json"
TABLE_FILE = "explanation/contributions.csv"
PLOT = "contributions"


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


@dataclass(frozen=True)
class Explanation:
    """The summary and its picture."""

    summary: ContributionSummary
    figure: "Figure"


def explain_candidate(product: ModelProduct, registry: Registry, run_id: str, judged: pl.DataFrame) -> Explanation:
    """Explain the candidate of a run on a sample of the rows that judge it, and keep that with the run."""
    rows = sampled(judged, product.training.seed)
    found = contributions_of(load_model(registry.run_folder(run_id)), rows)
    champion = registry.champion(product.name)
    summary = summarised(found, champion, None if champion is None else _importance(champion, rows))
    explanation = Explanation(summary, contribution_plot(found))
    registry.add_files(run_id, _files(explanation))
    registry.add_metrics(run_id, summary.metrics)
    return explanation


def summarised(
    found: Contributions, champion: ModelVersion | None, champion_importance: Mapping[str, float] | None
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
        champion=None if champion is None or shift is None else champion.version,
        rank_correlation=None if shift is None else shift.rank_correlation,
        moved_share=None if shift is None else shift.moved_share,
    )


def read_summary(registry: Registry, run_id: str) -> ContributionSummary | None:
    """What was recorded with a run; None with one that was not explained."""
    text = registry.read_file(run_id, SUMMARY_FILE)
    return None if text is None else ContributionSummary.model_validate_json(text)


def _importance(champion: ModelVersion, rows: pl.DataFrame) -> dict[str, float] | None:
    """The champion's, on the same rows; None where these lack a feature that it needs."""
    model = load_model(champion.folder, champion.digest)
    return contributions_of(model, rows).importance if set(model.contract.features) <= set(rows.columns) else None


def _shares(importance: Mapping[str, float]) -> dict[str, float]:
    total = sum(importance.values()) or 1.0
    return {name: mean / total for name, mean in importance.items()}


def _files(explanation: Explanation) -> dict[str, bytes]:
    picture = io.BytesIO()
    explanation.figure.savefig(picture, format="png", dpi=100)
    table = pl.DataFrame([each.model_dump() for each in explanation.summary.features])
    return {
        SUMMARY_FILE: explanation.summary.model_dump_json(indent=1).encode(),
        TABLE_FILE: table.write_csv().encode(),
        f"plots/{PLOT}.png": picture.getvalue(),
    }

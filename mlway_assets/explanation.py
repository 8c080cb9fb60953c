"""The explanation of a candidate: what its scores are made of, beside the champion's, kept with its run."""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from configs.products import ModelProduct
from mlway_assets.compute.contribution_plot import contribution_plot
from mlway_assets.compute.contribution_summary import ContributionSummary, summarised
from mlway_assets.compute.contributions import contributions_of, sampled
from mlway_assets.registry import ModelVersion, Registry
from mlway_assets.run_files import add_files, add_metrics, read_file
from serving.scoring import load_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUMMARY_FILE = "explanation/contributions.json"
TABLE_FILE = "explanation/contributions.csv"
PLOT = "contributions"


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
    theirs = None if champion is None else _importance(champion, rows)
    summary = summarised(found, None if champion is None else champion.version, theirs)
    explanation = Explanation(summary, contribution_plot(found))
    add_files(registry, run_id, _files(explanation))
    add_metrics(registry, run_id, summary.metrics)
    return explanation


def read_summary(registry: Registry, run_id: str) -> ContributionSummary | None:
    """What was recorded with a run; None with one that was not explained."""
    text = read_file(registry, run_id, SUMMARY_FILE)
    return None if text is None else ContributionSummary.model_validate_json(text)


def _importance(champion: ModelVersion, rows: pl.DataFrame) -> dict[str, float] | None:
    """The champion's, on the same rows; None where these lack a feature that it needs."""
    model = load_model(champion.folder, champion.digest)
    return contributions_of(model, rows).importance if set(model.contract.features) <= set(rows.columns) else None


def _files(explanation: Explanation) -> dict[str, bytes]:
    picture = io.BytesIO()
    explanation.figure.savefig(picture, format="png", dpi=100)
    table = pl.DataFrame([each.model_dump() for each in explanation.summary.features])
    return {
        SUMMARY_FILE: explanation.summary.model_dump_json(indent=1).encode(),
        TABLE_FILE: table.write_csv().encode(),
        f"plots/{PLOT}.png": picture.getvalue(),
    }

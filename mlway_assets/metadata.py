"""Metadata that people read in the graph: column schemas, column lineage, row counts, pictures."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from configs.catalogue import DeclaredFeature
from mlway_assets.asset_keys import curated_key, features_key, raw_key
from mlway_assets.column_lineage import ColumnOrigins
from mlway_assets.compute.feature_statistics import FeatureStatistics, GroupStatistics
from mlway_assets.compute.training import Candidate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Lineage = Mapping[str, Sequence[tuple[dg.AssetKey, str]]]
_KEYS = {"raw": raw_key, "curated": curated_key, "features": features_key}


def column_metadata(
    types: Mapping[str, object], lineage: Lineage, features: Mapping[str, DeclaredFeature] | None = None
) -> dict[str, dg.MetadataValue]:
    """Column schema, and which columns of which assets each column comes from.

    It belongs to the asset's definition: repeated in the event of every partition it would cost more than the work.
    Columns that are among `features` carry their description and tags.
    """
    columns = [_column(name, str(kind), (features or {}).get(name)) for name, kind in types.items()]
    deps = {
        name: [dg.TableColumnDep(asset_key=key, column_name=column) for key, column in sources]
        for name, sources in lineage.items()
        if sources
    }
    return {
        "dagster/column_schema": dg.MetadataValue.table_schema(dg.TableSchema(columns=columns)),
        "dagster/column_lineage": dg.MetadataValue.column_lineage(dg.TableColumnLineage(deps_by_column=deps)),
    }


def key_lineage(origins: ColumnOrigins) -> Lineage:
    """Column lineage in asset keys."""
    return {name: [(_KEYS[layer](table), column) for layer, table, column in found] for name, found in origins.items()}


def table_metadata(rows: int, version: int | None) -> dict[str, dg.MetadataValue]:
    """Rows written, and the Delta version that holds them."""
    counted: dict[str, dg.MetadataValue] = {"dagster/row_count": dg.MetadataValue.int(rows)}
    return counted if version is None else counted | {"delta_version": dg.MetadataValue.int(version)}


def statistics_table(statistics: GroupStatistics) -> str:
    """Statistics as a Markdown table, a row for each feature."""
    head = f"{statistics.rows} rows as of {statistics.as_of:%Y-%m-%d %H:%M} UTC"
    entities = "" if statistics.entities is None else f", {statistics.entities} entities"
    words = ("feature", "nulls", "mean", "deviation", "min", "p05", "p50", "p95", "max", "most frequent")
    rows = [f"| {name} | {' | '.join(_cells(found))} |" for name, found in statistics.features.items()]
    return "\n".join([f"{head}{entities}.", "", f"| {' | '.join(words)} |", "|---" * len(words) + "|", *rows])


def algorithms_table(candidate: Candidate) -> str:
    """What each algorithm reached on validation, as a Markdown table; the candidate's is bold."""
    names = list(candidate.considered[0].metrics)
    rows = []
    for each in candidate.considered:
        mark = "**" if each.algorithm == candidate.algorithm else ""
        cells = [f"{mark}{each.algorithm}{mark}", str(each.rounds), *(f"{each.metrics[name]:.4f}" for name in names)]
        rows.append(f"| {' | '.join(cells)} |")
    head = ("algorithm", "rounds", *names)
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *rows])


def picture(figure: "Figure") -> dg.MetadataValue:
    """A figure, inline."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80, bbox_inches="tight")
    return dg.MetadataValue.md(f"![plot](data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()})")


def _cells(found: FeatureStatistics) -> list[str]:
    numbers = (found.mean, found.standard_deviation, found.minimum, found.p05, found.p50, found.p95, found.maximum)
    share = "" if found.null_share is None else f"{found.null_share:.1%}"
    frequent = "" if found.most_frequent is None else f"{found.most_frequent} ({found.most_frequent_share:.1%})"
    return [share, *("" if number is None else f"{number:.4g}" for number in numbers), frequent.replace("|", "\\|")]


def _column(name: str, kind: str, feature: DeclaredFeature | None) -> dg.TableColumn:
    if feature is None:
        return dg.TableColumn(name, kind)
    # A tag of Dagster's takes no formula: its text may hold letters, digits and few signs.
    tags = dict.fromkeys(feature.tags, "") | ({"window": feature.window} if feature.window else {})
    return dg.TableColumn(name, kind, description=_text(feature), tags=tags)


def _text(feature: DeclaredFeature) -> str:
    used = ", ".join(f"{product} ({use})" for product, use in feature.products.items()) or "no product"
    over = f" over {feature.window}" if feature.window else ""
    return f"{feature.description} {feature.formula}{over}. Used by {used}.".strip()

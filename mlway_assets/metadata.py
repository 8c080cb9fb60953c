"""Metadata that people read in the graph: column schemas, column lineage, row counts, pictures."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Lineage = Mapping[str, Sequence[tuple[dg.AssetKey, str]]]


def column_metadata(types: Mapping[str, object], lineage: Lineage) -> dict[str, dg.MetadataValue]:
    """Column schema, and which columns of which assets each column comes from.

    It belongs to the asset's definition: repeated in the event of every partition it would cost more than the work.
    """
    columns = [dg.TableColumn(name, str(kind)) for name, kind in types.items()]
    deps = {
        name: [dg.TableColumnDep(asset_key=key, column_name=column) for key, column in sources]
        for name, sources in lineage.items()
        if sources
    }
    return {
        "dagster/column_schema": dg.MetadataValue.table_schema(dg.TableSchema(columns=columns)),
        "dagster/column_lineage": dg.MetadataValue.column_lineage(dg.TableColumnLineage(deps_by_column=deps)),
    }


def table_metadata(rows: int, version: int | None) -> dict[str, dg.MetadataValue]:
    """Rows written, and the Delta version that holds them."""
    counted: dict[str, dg.MetadataValue] = {"dagster/row_count": dg.MetadataValue.int(rows)}
    return counted if version is None else counted | {"delta_version": dg.MetadataValue.int(version)}


def picture(figure: "Figure") -> dg.MetadataValue:
    """A figure, inline."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80, bbox_inches="tight")
    return dg.MetadataValue.md(f"![plot](data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()})")

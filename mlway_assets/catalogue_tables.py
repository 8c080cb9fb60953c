"""The catalogue and the training sets as tables and lines for the terminal. What they show is computed elsewhere."""

from collections.abc import Iterator, Sequence

from rich.markup import escape
from rich.table import Table

from configs.catalogue import MODEL
from mlway_assets.compute.feature_statistics import FeatureStatistics
from mlway_assets.feature_catalogue import Catalogue, CatalogueFeature, CatalogueGroup
from mlway_assets.training_sets import TrainingSetVersion


def catalogue_tables(catalogue: Catalogue) -> Iterator[Table]:
    """One table for each group, a row for each feature."""
    for group in catalogue.groups.values():
        table = Table(title=_heading(group), title_justify="left", title_style="")
        table.add_column("feature", no_wrap=True)
        for column in ("type", "products", "nulls", "mean", "range or most frequent"):
            table.add_column(column, overflow="fold")
        for name, feature in group.features.items():
            table.add_row(
                name + _marks(feature.declared.tags),
                feature.declared.type,
                _users(feature),
                *_figures(feature.statistics),
            )
        yield table


def detail_lines(catalogue: Catalogue) -> Iterator[str]:
    """Everything about a few groups or features, line by line."""
    for group in catalogue.groups.values():
        yield _heading(group)
        for name, feature in group.features.items():
            yield f"\n  [bold]{escape(name)}[/bold] ({feature.declared.type}) {escape(feature.declared.description)}"
            for label, text in _details(feature):
                yield f"    {label:<11}{escape(text)}"
        yield ""


def training_set_table(product: str, versions: Sequence[TrainingSetVersion]) -> Table:
    """Versions of a product's training set, newest first."""
    table = Table("version", "written", "rows", "sha256", "inputs", title=f"Training sets of {product}")
    for found in versions:
        inputs = ", ".join(f"{name.partition('/')[2]}@{number}" for name, number in sorted(found.record.inputs.items()))
        written, rows = f"{found.written_at:%Y-%m-%d %H:%M:%S}", f"{found.record.rows:,}"
        table.add_row(str(found.version), written, rows, found.record.sha256[:12], inputs)
    return table


def _heading(group: CatalogueGroup) -> str:
    owner = escape(group.owner) if group.owner else "[yellow]nobody[/yellow]"
    parts = [f"{group.kind} features", f"owned by {owner}", _freshness(group)]
    if group.time_to_live:
        parts.insert(1, f"valid for {group.time_to_live}")
    if group.entity:
        parts.insert(1, f"of {group.entity} ({', '.join(group.join_keys)}) from {group.table}")
    over = f"\nStatistics over {group.statistics.rows:,} rows of {group.values}" if group.statistics else ""
    return f"[bold]{group.name}[/bold]{_marks(group.tags)}: {escape(group.description)}\n{'; '.join(parts)}.{over}"


def _marks(tags: Sequence[str]) -> str:
    return escape("".join(f" [{tag}]" for tag in tags))


def _freshness(group: CatalogueGroup) -> str:
    newest = group.statistics.newest_event if group.statistics else None
    if newest is None or group.age_seconds is None:
        return {"never": "never computed", "always": "does not age"}.get(group.freshness, "computed on request")
    return f"{group.freshness}: newest event {newest:%Y-%m-%d %H:%M} UTC, {_span(group.age_seconds)} ago"


def _span(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if abs(seconds) >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _users(feature: CatalogueFeature) -> str:
    uses = feature.declared.products.items()
    used = ", ".join(product if use == MODEL else f"{product} (input)" for product, use in uses)
    return escape(used) if used else "[yellow]none[/yellow]"


def _figures(found: FeatureStatistics | None) -> tuple[str, str, str]:
    """Null share; mean; range, or the most frequent text."""
    if found is None:
        return "", "", ""
    nulls = "" if found.null_share is None else f"{found.null_share:.1%}"
    mean = "" if found.mean is None else f"{found.mean:.4g}"
    if found.most_frequent is not None:
        return nulls, mean, f"{escape(found.most_frequent)} {found.most_frequent_share:.1%} of {found.distinct}"
    return nulls, mean, "" if found.minimum is None else f"{found.minimum:.4g} to {found.maximum:.4g}"


def _details(feature: CatalogueFeature) -> Iterator[tuple[str, str]]:
    declared, found = feature.declared, feature.statistics
    yield "formula", f"{declared.formula} over {declared.window}" if declared.window else declared.formula
    if declared.tags:
        yield "tags", ", ".join(declared.tags)
    yield "products", ", ".join(f"{product} ({use})" for product, use in declared.products.items()) or "none"
    yield "from", ", ".join(f"{layer}/{table}.{column}" for layer, table, column in feature.columns)
    yield "originally", ", ".join(f"{layer}/{table}.{column}" for layer, table, column in feature.raw_columns)
    if found is not None:
        known = found.model_dump(exclude_none=True)
        texts = (
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in known.items()
        )
        yield "statistics", ", ".join(texts)

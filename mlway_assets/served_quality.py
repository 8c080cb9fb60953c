"""Hold the answers that endpoints gave against the labels that have become known since, decision by decision.

`quality` judges the champion by scores of every row. Callers ask about some rows, again and again about some, and are
answered from the values that the online store had then, or by the baseline: this is how good what they got was.
"""

from collections.abc import Sequence
from datetime import date

import polars as pl

from configs.products import ModelProduct
from mlway_assets.compute.drift_judgement import with_those_before
from mlway_assets.compute.measurement import LOWER, SCORE, UPPER
from mlway_assets.compute.population import LABEL, QUERY, known_labels
from mlway_assets.decision_table import REQUEST, table_columns
from mlway_assets.drift_monitoring import LAYER
from mlway_assets.learned_rows import Learned, learned_by_champion
from mlway_assets.logged_decisions import logged_rows
from mlway_assets.quality_reports import DAY, MeasuredDays, QualityReport, ScoredBy, promise_of_champion, slice_table
from mlway_assets.resources import Platform

_IS_DUE = "is_due"
"""Whether the label of a row has had its time: those that come first are no fair sample."""
_IS_HIDDEN = "is_hidden"
"""Whether the log leaves out what was asked about."""
_MODEL = ["model_version", "model_digest"]


def served_quality_table(product: str) -> str:
    """Name of the table of the quality of a product's answers: a row for each day of decisions, model and metric."""
    return f"{product}_served_quality"


def served_slices_table(product: str) -> str:
    """Name of the table of the same by slice, of the champion's answers alone."""
    return f"{product}_served_quality_by_slice"


def watch_served_quality(product: ModelProduct, platform: Platform, days: Sequence[date]) -> list[QualityReport]:
    """The quality of the champion's answers on each of these days, judged over the days up to it.

    It replaces what was known of them, and of the days before them, whose labels have come since; kept are the answers
    of every model, and of the baseline. A row that was asked about twice counts twice. Raises MissingTableError,
    RelevanceError, and what learned_by_champion does.
    """
    learned, limits = learned_by_champion(product, platform), product.monitoring.served_quality_limits
    window = with_those_before(days, limits.days_seen)
    answers = _answers(product, platform, window, learned)
    champion = ScoredBy(learned.champion.version, learned.champion.digest)
    measured = {champion: _measured(product, champion, answers)}
    for version, digest in answers.select(_MODEL).unique().sort(_MODEL).iter_rows():
        model = ScoredBy(version, digest)
        measured[model] = _measured(product, model, answers)
    promise = promise_of_champion(product, learned, platform)
    reports = [measured[champion].report(day, promise) for day in days]
    table = pl.concat([each.table(window) for each in measured.values()])
    platform.lake.replace_days(LAYER, served_quality_table(product.name), table, window)
    platform.lake.replace_days(LAYER, served_slices_table(product.name), slice_table(reports, champion), days)
    return reports


def _measured(product: ModelProduct, model: ScoredBy, answers: pl.DataFrame) -> MeasuredDays:
    own = answers.filter(pl.col(name).eq_missing(pl.lit(value)) for name, value in model.cells.items())
    due = own.filter(_IS_DUE)
    others = own.filter(~pl.col(_IS_DUE) & pl.col(LABEL).is_null()).group_by(DAY).len()
    limits = product.monitoring.served_quality_limits
    return MeasuredDays(product, limits, model, due, set(due[DAY]), dict(others.iter_rows()))


def _answers(product: ModelProduct, platform: Platform, days: Sequence[date], learned: Learned) -> pl.DataFrame:
    """What was answered on these days, a row for each row asked about, with the labels that are known by now.

    A row whose request the log hides has no label, and is never due.
    """
    population, now = product.population, platform.clock.now()
    logged = logged_rows(product, platform, days)
    if logged is None:  # nobody was ever asked
        logged = pl.LazyFrame(schema=table_columns(platform.project, product))
    rows = _columns(product, logged).collect()
    about = rows[population.event_time].drop_nulls()
    table = platform.lake.scan("curated", population.table)
    asked = table.filter(pl.col(population.event_time).is_between(about.min(), about.max()))
    # As they were declared for the champion: by another label it cannot be judged.
    labels = known_labels(learned.product, asked, now).collect()
    answers = rows.join(labels, on=list(population.request), how="left", nulls_equal=True, validate="m:1")
    has_had_time = pl.col(population.event_time) + product.monitoring.quality.label_delay <= now
    is_known = ~pl.col(_IS_HIDDEN)
    return answers.with_columns(
        pl.when(is_known).then(LABEL).alias(LABEL), (has_had_time & is_known).fill_null(value=False).alias(_IS_DUE)
    )


def _columns(product: ModelProduct, logged: pl.LazyFrame) -> pl.LazyFrame:
    """As quality is measured by: the request's fields by their names, and the whole answer."""
    answer = pl.col("answer").str
    return logged.select(
        DAY,
        *_MODEL,
        *(pl.col(REQUEST + name).alias(name) for name in product.population.request),
        pl.col("hidden").str.json_path_match("$.fields[0]").is_not_null().alias(_IS_HIDDEN),
        SCORE,
        *(
            answer.json_path_match(f"$.{end}").cast(pl.Float64).alias(end)
            for end in (LOWER, UPPER)
            if product.interval is not None
        ),
        *([] if product.ranking is None else [pl.col("decision_id").alias(QUERY)]),
    )

"""Hold the answers that endpoints gave against the labels that have become known since, decision by decision.

`quality` judges the champion by scores of every row. Callers ask about some rows, again and again about some, and are
answered from the values that the online store had then, or by the baseline: this is how good what they got was.
"""

from collections.abc import Sequence
from datetime import date

import polars as pl

from configs.monitoring import whole_days
from configs.products import ModelProduct
from mlway_assets.compute.drift_judgement import with_those_before
from mlway_assets.compute.measurement import LOWER, SCORE, UPPER, targets
from mlway_assets.compute.population import LABEL, LABEL_KNOWN_AT, QUERY, known_outcomes
from mlway_assets.decision_table import REQUEST, table_columns
from mlway_assets.drift_monitoring import LAYER
from mlway_assets.learned_rows import Learned, learned_by_champion
from mlway_assets.logged_decisions import ROW_KEY, hides_request, logged_rows, sample_decisions
from mlway_assets.quality_reports import DAY, MeasuredDays, QualityReport, ScoredBy, promise_of_champion, slice_table
from mlway_assets.resources import Platform

_IS_HIDDEN = "is_hidden"
_MODEL = ["model_version", "model_digest"]
_LABELLED = [DAY, *ROW_KEY, "at", *_MODEL, SCORE, LABEL, LABEL_KNOWN_AT]


def served_quality_table(product: str) -> str:
    """Name of the table of the quality of a product's answers: a row for each day of decisions, model and metric."""
    return f"{product}_served_quality"


def served_slices_table(product: str) -> str:
    """Name of the table of the same by slice, of the champion's answers alone."""
    return f"{product}_served_quality_by_slice"


def served_labels_table(product: str) -> str:
    """Name of the table of the labels that are known of answers, a row for each row of a decision: as numbers, true is
    1, in a ranking the relevance.
    """
    return f"{product}_served_labels"


def watch_served_quality(product: ModelProduct, platform: Platform, days: Sequence[date]) -> list[QualityReport]:
    """The quality of the champion's answers on each of these days, judged over the days up to it.

    It replaces what was known of them, and of the days before them, whose labels have come since; kept are the answers
    of every model, and of the baseline, and by decision the labels that are known. A row that was asked about twice
    counts twice, one that was asked about when its label was known, or long before its event, not at all. Raises
    MissingTableError, RelevanceError, and what learned_by_champion does.
    """
    learned, limits = learned_by_champion(product, platform), product.monitoring.served_quality_limits
    waited = limits.days_waited + whole_days(product.monitoring.served_quality.longest_lead)
    seen = with_those_before(days, waited)
    answers = _answers(product, platform, seen)
    champion = ScoredBy(learned.champion.version, learned.champion.digest)
    others = (ScoredBy(*model) for model in answers.select(_MODEL).unique().sort(_MODEL).iter_rows())
    measured = {}
    for model in dict.fromkeys([champion, *others]):
        own = answers.filter(pl.col(name).eq_missing(pl.lit(value)) for name, value in model.cells.items())
        shown = own.filter(~pl.col(_IS_HIDDEN))
        hidden = dict(own.filter(_IS_HIDDEN).group_by(DAY).len().iter_rows())
        rows = _with_labels(product, platform, learned, shown)
        measured[model] = MeasuredDays(product, limits, model, rows, platform.clock.now(), waited, hidden)
    labels = pl.concat([each.rows.select(_LABELLED) for each in measured.values()]).drop_nulls(LABEL)
    # A number also where a label is declared anew, or graded.
    labels = labels.with_columns(pl.Series(LABEL, targets(learned.product, labels), pl.Float64)).sort(DAY, *ROW_KEY)
    platform.lake.replace_days(LAYER, served_labels_table(product.name), labels, seen)
    promise = promise_of_champion(product, learned, platform)
    reports = [measured[champion].report(day, promise) for day in days]
    table = pl.concat([each.table(seen) for each in measured.values()])
    platform.lake.replace_days(LAYER, served_quality_table(product.name), table, seen)
    platform.lake.replace_days(LAYER, served_slices_table(product.name), slice_table(reports, champion), days)
    return reports


def _answers(product: ModelProduct, platform: Platform, days: Sequence[date]) -> pl.DataFrame:
    """What was answered on these days, a row for each row asked about: the request's fields by their names, the whole
    answer, and by which model.
    """
    population, answer = product.population, pl.col("answer").str
    logged, columns = logged_rows(product, platform, days), table_columns(platform.project, product)
    if logged is None:  # nobody was ever asked
        logged = pl.LazyFrame(schema=columns)
    known = logged.collect_schema().names()
    counts = pl.col(population.event_time) - pl.col("at") <= product.monitoring.served_quality.longest_lead
    asked = sample_decisions(logged, product.monitoring.served_quality.sample_rows).select(
        DAY,
        *ROW_KEY,
        "at",
        *_MODEL,
        *(
            # One that was declared since nobody was asked for yet.
            (pl.col(REQUEST + name) if REQUEST + name in known else pl.lit(None, columns[REQUEST + name])).alias(name)
            for name in population.request
        ),
        hides_request().alias(_IS_HIDDEN),
        SCORE,
        *(
            answer.json_path_match(f"$.{end}").cast(pl.Float64).alias(end)
            for end in (LOWER, UPPER)
            if product.interval is not None
        ),
    )
    return asked.filter(pl.col(_IS_HIDDEN) | counts).collect()


def _with_labels(product: ModelProduct, platform: Platform, learned: Learned, answers: pl.DataFrame) -> pl.DataFrame:
    """One model's answers that were given before their labels were known, with those that are known by now.

    A field of the request that none of them has was declared later: rows are told apart by the others.
    """
    population = product.population
    fields = [name for name in population.request if answers[name].null_count() < len(answers)] or [*population.request]
    about, time = answers.select(fields).unique(), pl.col(population.event_time)
    ends = about[population.event_time]
    table = platform.lake.scan("curated", population.table).filter(time.is_between(ends.min(), ends.max()))
    asked = table.join(about.lazy(), on=fields, how="semi", nulls_equal=True)
    # As they were declared for the champion: by another label it cannot be judged.
    outcomes = known_outcomes(learned.product, asked, platform.clock.now(), fields).collect()
    rows = answers.join(outcomes, on=fields, how="left", nulls_equal=True, validate="m:1")
    rows = rows.filter((pl.col(LABEL_KNOWN_AT) > pl.col("at")).fill_null(value=True))
    if product.ranking is None:
        return rows
    # Rows are in order within one answer, and only those of one query: a batch may hold several.
    return rows.with_columns(pl.concat_str("decision_id", pl.col(QUERY).fill_null(""), separator=" ").alias(QUERY))

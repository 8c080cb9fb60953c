"""Draw how far columns have moved: one page of pictures, by Evidently.

What has drifted is judged elsewhere (drift_judgement.py), and from all rows: Evidently's own index has bins of equal
width, in which a long tail hides what moves. The page tells that judgement, beside pictures of a sample.
"""

import html
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from mlway_assets.compute.drift import texts_and_numbers
from mlway_assets.compute.drift_judgement import DayDrift

if TYPE_CHECKING:
    from evidently import Dataset

_SEED = 0
_MOST_TEXTS = 30
"""The most frequent of either side are drawn, all others as one."""
_METHOD = "mlway_stability_index"


@dataclass(frozen=True)
class DriftPage:
    """A page, and the columns without pictures: they have no value in one of the samples."""

    html: str
    not_drawn: tuple[str, ...]


def draw_drift(title: str, told: str, expected: pl.DataFrame, seen: pl.DataFrame, judged: DayDrift) -> DriftPage:
    """The columns of `judged`, the furthest first, in a page that needs no network. Both frames must have rows."""
    names = [finding.drift.name for finding in judged.findings]
    drawn = [name for name in names if expected[name].count() and seen[name].count()]
    not_drawn = tuple(name for name in names if name not in drawn)
    with warnings.catch_warnings():
        # Of what it loads, and where it divides by the deviation of a column that does not vary.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        page = _evidently(*_drawable(expected.select(drawn), seen.select(drawn)), judged)
    empty = f" Without values to draw: {', '.join(not_drawn)}." if not_drawn else ""
    return DriftPage(_with_heading(page, title, f"{told}{empty}"), not_drawn)


def sample(rows: pl.DataFrame, most_rows: int) -> pl.DataFrame:
    """At most so many rows, in their order: of the same rows always the same."""
    places = pl.int_range(len(rows), eager=True).sample(min(most_rows, len(rows)), seed=_SEED)
    return rows[places.sort()]


def _evidently(expected: pl.DataFrame, seen: pl.DataFrame, judged: DayDrift) -> str:
    # Set before it is loaded: nothing that its parts may count is sent.
    os.environ.setdefault("DO_NOT_TRACK", "1")
    from evidently import Report
    from evidently.presets import DataDriftPreset

    class Table(DataDriftPreset):  # type: ignore[misc]  # Evidently's classes are not typed
        """The preset's table alone: it also draws each column once more, and shows that nowhere."""

        def generate_metrics(self, context: object) -> list[object]:  # noqa: ARG002 - the signature is Evidently's
            return []

    _register(judged)
    preset = Table(
        columns=expected.columns,
        method=_METHOD,
        drift_share=(judged.most_drifted + 1) / len(expected.columns),
        per_column_threshold={finding.drift.name: finding.psi_limit for finding in judged.findings},
    )
    report = Report([preset], include_tests=False).run(_dataset(seen), _dataset(expected))
    page: str = report.get_html_str(as_iframe=False)
    return page


def _register(judged: DayDrift) -> None:
    """Tell Evidently what was found, as a statistic of its kind: it calls statistics by their registered name."""
    from evidently.legacy.calculations.stattests import StatTest, register_stattest
    from evidently.legacy.core import ColumnType

    kinds = [ColumnType.Numerical, ColumnType.Categorical]
    statistic = StatTest(_METHOD, "PSI over tenths, of all rows; or missing, or never seen", kinds)
    register_stattest(statistic, _verdict(judged))


def _verdict(judged: DayDrift) -> Callable[..., tuple[float, bool]]:
    found = {finding.drift.name: finding for finding in judged.findings}

    def verdict(expected: Any, _seen: object, _kind: object, _threshold: float) -> tuple[float, bool]:
        finding = found[str(expected.name)]
        return finding.drift.psi, finding.is_drifted

    return verdict


def _drawable(expected: pl.DataFrame, seen: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Numbers, and of texts few enough to draw."""
    before, now = texts_and_numbers(expected), texts_and_numbers(seen)
    texts = [name for name, kind in before.schema.items() if kind == pl.String]
    shown = [_shown(name, [before[name], now[name]]) for name in texts]
    return before.with_columns(shown), now.with_columns(shown)


def _shown(name: str, sides: Sequence[pl.Series]) -> pl.Expr:
    frequent = {text for side in sides for text in _most_frequent(side)}
    text = pl.col(name)
    kept = pl.when(text.is_in(frequent) | text.is_null()).then(text).otherwise(pl.lit("all other values"))
    # The page holds values within a script, which a value of the data must not end; Plotly draws &lt; as it should.
    return kept.str.replace_all("<", "&lt;", literal=True).alias(name)


def _most_frequent(texts: pl.Series) -> list[str]:
    found = texts.drop_nulls().alias("text").value_counts(name="times")
    return found.sort(["times", "text"], descending=[True, False])["text"].head(_MOST_TEXTS).to_list()


def _dataset(rows: pl.DataFrame) -> "Dataset":
    """With every column's kind told: of some that Evidently infers it says nothing."""
    from evidently import DataDefinition, Dataset

    texts = [name for name, kind in rows.schema.items() if kind == pl.String]
    numbers = [name for name in rows.columns if name not in texts]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=texts)
    return Dataset.from_pandas(rows.to_pandas(), data_definition=definition)


def _with_heading(page: str, title: str, told: str) -> str:
    """Evidently's page says neither what it is of nor what was found."""
    name, text = html.escape(title), html.escape(told)
    heading = f'<header style="font: 16px sans-serif; margin: 2em"><h1>{name}</h1><p>{text}</p></header>'
    return page.replace("<head>", f"<head><title>{name}</title>", 1).replace("<body>", f"<body>{heading}", 1)

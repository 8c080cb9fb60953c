"""Write pages of pictures of a product's input drift, for people: a file for each day.

How a page is drawn: compute/drift_page.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl

from configs.environments import Environment
from configs.errors import MlwayError
from configs.products import ModelProduct
from mlway_assets.checks import drift_told
from mlway_assets.compute.drift_judgement import DayDrift, window
from mlway_assets.compute.drift_page import DriftPage, draw_drift, sample
from mlway_assets.drift_monitoring import Inputs, judge_inputs
from mlway_assets.resources import Platform


class NothingToDrawError(MlwayError):
    """A day's window, or what the champion has learned from, has no rows or no values."""


@dataclass(frozen=True)
class WrittenPage:
    """Where the page of a day lies, and the columns without pictures."""

    day: date
    path: Path
    not_drawn: tuple[str, ...]


def input_drift_page(product: str, environment: Environment, day: date) -> Path:
    """Where a day's page lies, once it was written."""
    return environment.state / "reports" / product / f"input_drift_{day}.html"


def write_input_drift_pages(product: ModelProduct, platform: Platform, days: Sequence[date]) -> Iterator[WrittenPage]:
    """The page of each of these days, one after the other; one that was there is replaced.

    Raises NothingToDrawError, and what judge_inputs does.
    """
    inputs = judge_inputs(product, platform, days)
    learned = inputs.expected()
    for judged in inputs.found:
        page = _draw(product, inputs, learned, judged)
        path = input_drift_page(product.name, platform.environment, judged.day)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Whoever follows the link sees a whole page, the former or this one.
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(page.html, encoding="utf-8")
        unfinished.replace(path)
        yield WrittenPage(judged.day, path, page.not_drawn)


def _draw(product: ModelProduct, inputs: Inputs, learned: pl.DataFrame, judged: DayDrift) -> DriftPage:
    limits, version = product.monitoring.input_drift, inputs.learned.champion.version
    rows = window(inputs.rows, judged.day, limits.window_days)
    expected, seen = sample(learned, limits.report_rows), sample(rows, limits.report_rows)
    if not any(expected[each.drift.name].count() and seen[each.drift.name].count() for each in judged.findings):
        raise NothingToDrawError(
            f"Of {product.name} there is nothing to draw for the window up to {judged.day}: no column has values both "
            f"in its {len(rows):,} rows and in the {len(learned):,} that version {version} "
            "learned from.\nHint: run `mlway materialize ingest` for the days of the window."
        )
    shown = (
        f"Pictures show {len(seen):,} of {len(rows):,} rows beside {len(expected):,} of the {len(learned):,} "
        f"that version {version} learned from; what has drifted is judged from all of them."
    )
    title = f"Input drift of {product.name}, {limits.window_days} days up to {judged.day}"
    return draw_drift(title, f"{drift_told(judged)} {shown}", expected, seen, judged)

"""Drift of 100,000 rows x 30 columns beside 100,000 others: ours against Evidently's `DataDriftPreset`.

Usage: python benchmarks/drift.py [rounds]. Each side gets frames of its own kind, made before the clock starts: ours
of Polars, Evidently's of pandas with a full DataDefinition, texts as categories, which it takes no worse than objects.
Ours is timed from the two frames to every figure of every column: stability index, distance, missing and never seen
shares, and which part has moved most. The platform keeps what it knows of the reference; `ratio` does not count on it.
Evidently is timed from its datasets to the numbers of its report, which holds its pictures too; no HTML is written:

- `preset`: with its own choice of statistics. `ratio` is its time / ours.
- `preset_psi`: told to use the stability index alone.
- `bare`: without a report, its functions of the statistics that ours has, column by column.

In turn, medians over the rounds. First ours must be what SciPy and the definitions say (drift_literal.py), and the
index of texts that both sides know what Evidently says. The last line is one JSON object.
"""

import json
import os
import statistics
import sys
import warnings
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import numpy as np
import polars as pl
from drift_literal import require_equal
from drift_rows import draw

from mlway_assets.compute.drift import ColumnDrift, Reference

ROWS = 100_000
os.environ["DO_NOT_TRACK"] = "1"


def ours(expected: pl.DataFrame, seen: pl.DataFrame) -> list[ColumnDrift]:
    return Reference(expected).drift(seen)


def dataset(rows: pl.DataFrame) -> Any:
    from evidently import DataDefinition, Dataset

    texts = [name for name, kind in rows.schema.items() if kind == pl.String]
    numbers = [name for name in rows.columns if name not in texts]
    frame = rows.with_columns(pl.col(texts).cast(pl.Categorical)).to_pandas()
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=texts)
    return Dataset.from_pandas(frame, data_definition=definition)


def report(preset: Any, expected: Any, seen: Any) -> dict[str, float]:
    """What Evidently finds of each column."""
    from evidently import Report

    found = Report([preset]).run(seen, expected).dict()["metrics"]
    of_columns = [metric for metric in found if metric["config"]["type"] == "evidently:metric_v2:ValueDrift"]
    return {metric["config"]["column"]: float(metric["value"]) for metric in of_columns}


def bare(expected: Any, seen: Any) -> None:
    """Evidently's functions of the index and the distances, as it calls them: on what is not missing."""
    from evidently.legacy.calculations.stattests import jensenshannon_stat_test, ks_stat_test, psi_stat_test
    from evidently.legacy.core import ColumnType

    texts = set(expected.data_definition.get_categorical_columns())
    before, now = expected.as_dataframe(), seen.as_dataframe()
    for name in before.columns:
        kind = ColumnType.Categorical if name in texts else ColumnType.Numerical
        values = (before[name].dropna(), now[name].dropna())
        for test in (psi_stat_test, jensenshannon_stat_test if name in texts else ks_stat_test):
            test(*values, kind, None)


def require_right(expected: pl.DataFrame, seen: pl.DataFrame, by_evidently: Mapping[str, float]) -> None:
    """Ends the benchmark where a figure of ours is wrong."""
    found = ours(expected, seen)
    for each in found:
        require_equal(each, expected[each.name], seen[each.name])
    both_know = [each for each in found if each.is_text and not each.unseen_share]
    for each in both_know:
        if abs(each.psi - by_evidently[each.name]) > 1e-9:
            sys.exit(f"{each.name}: our index is {each.psi}, Evidently's {by_evidently[each.name]}")
    if len(found) != len(expected.columns) or not both_know:
        sys.exit("not every column was found, or none on which Evidently must agree")
    print(f"{len(found)} columns as SciPy and the definitions say, {len(both_know)} of them as Evidently does")


def seconds(work: Callable[[], object]) -> float:
    started = perf_counter()
    work()
    return perf_counter() - started


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    warnings.simplefilter("ignore")  # Evidently's own, of divisions by zero
    from evidently.presets import DataDriftPreset

    dice = np.random.default_rng(2013)
    expected, seen = draw(dice, ROWS, is_moved=False), draw(dice, ROWS, is_moved=True)
    datasets = dataset(expected), dataset(seen)
    require_right(expected, seen, report(DataDriftPreset(method="psi"), *datasets))
    reference = Reference(expected)
    works: dict[str, Callable[[], object]] = {
        "ours": lambda: ours(expected, seen),
        "ours_beside_a_kept_reference": lambda: reference.drift(seen),
        "preset": lambda: report(DataDriftPreset(), *datasets),
        "preset_psi": lambda: report(DataDriftPreset(method="psi"), *datasets),
        "bare": lambda: bare(*datasets),
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds):
        # Turn and turn about: nobody always follows the same one.
        for name in sorted(works, key=lambda name: (number + list(works).index(name)) % len(works)):
            times[name].append(seconds(works[name]))
            print(f"{name:30}{times[name][-1]:8.3f} s", flush=True)
    medians = {name: statistics.median(found) for name, found in times.items()}
    ratios = {name: round(medians[name] / medians["ours"], 1) for name in ("preset", "preset_psi", "bare")}
    result = {"ratio": ratios["preset"], "ratio_to_preset_psi": ratios["preset_psi"], "ratio_to_bare": ratios["bare"]}
    print(json.dumps(result | {f"{name}_seconds": round(found, 3) for name, found in medians.items()}))


if __name__ == "__main__":
    main()

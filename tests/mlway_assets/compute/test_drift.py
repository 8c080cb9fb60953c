"""Drift against what its definitions say, and against SciPy's own."""

import itertools
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp

from mlway_assets.compute.drift import ColumnDrift, Reference, stability_index

NUMBERS = st.lists(st.integers(-20, 20).map(float) | st.floats(-1e6, 1e6), min_size=1, max_size=150)
TEXTS = st.lists(st.sampled_from("abcde"), min_size=1, max_size=60)


def drift_of(expected: list[float | None] | list[str], seen: list[float | None] | list[str]) -> ColumnDrift:
    kind = pl.String if isinstance(next(iter(expected), None), str) else pl.Float64
    frames = [pl.DataFrame({"x": pl.Series(values, dtype=kind)}) for values in (expected, seen)]
    [found] = Reference(frames[0]).drift(frames[1])
    return found


def literal_psi(expected: list[float], seen: list[float]) -> float:
    """Parts end below the least expected value, where a tenth, two tenths, ... of them lie, and at the greatest."""
    ordered = sorted(expected)
    ends = {ordered[math.ceil(len(ordered) * tenth / 10 - 1e-9) - 1] for tenth in range(1, 11)}
    bounds = [-math.inf, math.nextafter(ordered[0], -math.inf), *sorted(ends), math.inf]
    total = 0.0
    counts = [
        [sum(low < value <= high for value in values) for low, high in itertools.pairwise(bounds)]
        for values in (expected, seen)
    ]
    parts = [part for part in zip(*counts, strict=True) if any(part)]
    sums = [sum(max(part[side], 0.5) for part in parts) for side in (0, 1)]
    for before, now in parts:
        share, share_now = max(before, 0.5) / sums[0], max(now, 0.5) / sums[1]
        total += (share_now - share) * math.log(share_now / share)
    return total


@given(expected=NUMBERS, seen=NUMBERS)
def test_numbers_have_the_stability_index_of_deciles_and_scipys_distance(
    expected: list[float], seen: list[float]
) -> None:
    found = drift_of(list(expected), list(seen))
    assert found.psi == pytest.approx(literal_psi(expected, seen), abs=1e-9)
    # With fewer values than quantiles are kept, none is left out and the distance is exact.
    with np.errstate(divide="ignore"):  # SciPy's own, of the significance
        exact = ks_2samp(expected, seen, method="asymp").statistic
    assert found.distance == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("rows", [201, 999, 1_000, 4_321])
def test_tenths_are_exact_however_many_values_there_are(rows: int) -> None:
    dice = np.random.default_rng(rows)
    expected, seen = dice.lognormal(0, 1, rows).tolist(), dice.lognormal(0.3, 1, 500).tolist()
    assert drift_of(expected, seen).psi == pytest.approx(literal_psi(expected, seen), abs=1e-9)


def test_with_many_values_the_distance_is_within_half_a_percent() -> None:
    dice = np.random.default_rng(7)
    expected, seen = dice.normal(0, 1, 50_000), dice.normal(0.2, 1.3, 3_000)
    exact = ks_2samp(expected, seen).statistic
    assert exact - 0.005 <= drift_of(expected.tolist(), seen.tolist()).distance <= exact + 1e-12


@given(expected=TEXTS, seen=TEXTS)
def test_texts_have_scipys_distance(expected: list[str], seen: list[str]) -> None:
    found = drift_of(list(expected), list(seen))
    known = sorted(set(expected))
    shares = [[*(values.count(k) for k in known), sum(v not in known for v in values)] for values in (expected, seen)]
    assert found.distance == pytest.approx(jensenshannon(*shares, base=2), abs=1e-6)
    assert found.unseen_share == pytest.approx(shares[1][-1] / len(seen))


def test_texts_have_the_stability_index_of_their_values_and_one_part_for_those_never_seen() -> None:
    found = drift_of([*"aaabbc"], [*"abbbde"])
    parts = {"a": (3, 1), "b": (2, 3), "c": (1, 0.5), "never seen": (0.5, 2)}
    shares = [(before / 6.5, now / 6.5) for before, now in parts.values()]
    assert found.psi == pytest.approx(sum((now - before) * math.log(now / before) for before, now in shares))
    assert found.unseen_share == pytest.approx(2 / 6)


def test_categories_are_texts_whatever_their_column_is_called() -> None:
    for name in ("level", "times"):
        frame = pl.DataFrame({name: ["a", "b", "b", None]}, schema={name: pl.Categorical})
        [found] = Reference(frame).drift(frame.cast(pl.Enum(["a", "b", "c"])))
        assert (found.name, found.is_text, found.psi, found.distance, found.missing_share) == (name, True, 0, 0, 0.25)


@given(values=NUMBERS)
def test_what_has_not_moved_has_no_drift(values: list[float]) -> None:
    found = drift_of(list(values), list(values))
    assert (found.psi, found.distance, found.missing_difference) == (0, 0, 0)


def test_missing_values_are_told_apart_from_values() -> None:
    found = drift_of([1.0, 2.0, 3.0, None], [1.0, 2.0, 3.0, None, float("nan"), None])
    assert (found.missing_share, found.expected_missing_share) == (0.5, 0.25)
    assert (found.psi, found.distance) == (0, 0)


def test_without_values_there_is_no_distance() -> None:
    for expected, seen in (([1.0, 2.0], [None, None]), ([None, None], [1.0]), ([1.0, 2.0], [])):
        found = drift_of(expected, seen)  # type: ignore[arg-type]
        assert math.isnan(found.psi)
        assert math.isnan(found.distance)
        assert found.most_moved is None


def test_the_part_that_moved_most_is_named() -> None:
    numbers = drift_of([float(n) for n in range(100)], [95.0] * 10)
    assert numbers.most_moved is not None
    assert numbers.most_moved.part == "89 to 99"
    assert numbers.most_moved.seen_share == 1
    texts = drift_of(["a", "b"], ["c", "c", "a"])
    assert texts.most_moved is not None
    assert texts.most_moved.part == "values that were never seen"


def test_conditions_and_whole_numbers_are_numbers() -> None:
    before = pl.DataFrame({"is_late": [True, False, False, False], "count": [1, 2, 3, 4]})
    late, count = Reference(before).drift(pl.DataFrame({"is_late": [True, True], "count": [1, 4]}))
    assert (late.distance, late.is_text) == (0.75, False)
    assert count.distance == 0.25


def test_a_part_with_nothing_in_it_counts_as_half_a_row() -> None:
    seen = stability_index(np.array([50, 50]), np.array([100, 0]))
    before, now = (0.5, 0.5), (100 / 100.5, 0.5 / 100.5)
    assert seen == pytest.approx(sum((n - b) * math.log(n / b) for b, n in zip(before, now, strict=True)))


def test_a_part_is_told_in_digits_that_tell_its_ends_apart() -> None:
    found = drift_of([12_345 + n / 100 for n in range(1_000)], [12_346.0] * 10)
    assert found.most_moved is not None
    low, high = found.most_moved.part.split(" to ")
    assert 12_345 <= float(low) < float(high) < 12_355

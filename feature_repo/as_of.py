"""Which value holds at which moment: the search at the heart of the point-in-time join.

In order of time a place stands for a moment. Entities get numbers; number and place together are one whole number, in
which sorting groups by entity and keeps the order of time, and one binary search finds the last value of an entity
before a moment. Several times faster than hashing every row to its entity's group, and exact.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

Places = NDArray[np.int64]
Numbers = NDArray[np.uint32]
_NUMBER = "__mlway_number"
NOTHING = -1
"""The place of a value that is not there."""
_NO_NUMBER = 2**32 - 1
_FEW = 2**16 - 1


class Asked:
    """Moments, at each of which an entity's value is asked for.

    `order` holds their places in order of time, or is None where they are so already.
    """

    def __init__(self, moments: NDArray[np.int64], order: Places | None, keys: pl.DataFrame) -> None:
        self.moments = moments
        self._in_order = moments if order is None else moments.take(order)
        self._entities = _Entities(keys) if keys.width else None
        if self._entities is None:
            self._ranks = np.arange(len(moments))
        else:
            numbers = self._entities.numbers(keys)
            ordered = self._entities.ordered(numbers if order is None else numbers.take(order))
            # By entity, and within it by time. Rows without an entity are not among them.
            self._numbers, self._ranks = np.divmod(ordered, max(len(numbers), 1))
        self._places = self._ranks if order is None else order.take(self._ranks)

    def newest(self, keys: pl.DataFrame, usable_from: NDArray[np.int64]) -> Places:
        """For each moment the place of the entity's last value that is usable at it, or NOTHING.

        `keys` and `usable_from` are the values' entities and moments, in the order in which values replace each other.
        """
        # How many values, of whatever entity, are usable at each moment. From here on arrays are changed in place where
        # they can be: touching new memory takes as long as the computation itself.
        counts = np.searchsorted(usable_from, self._in_order, side="right").take(self._ranks)
        found = np.full(len(self.moments), NOTHING, np.int64)
        if self._entities is None:
            found[self._places] = counts - 1
            return found
        known = self._entities.ordered(self._entities.numbers(keys))
        if len(known):
            first = self._numbers * len(usable_from)
            counts += first
            hit = np.searchsorted(known, counts, side="left")
            hit -= 1
            last = known.take(hit, mode="clip", out=counts)
            last -= first
            last[(hit < 0) | (last < 0)] = NOTHING
            found[self._places] = last
        return found


class _Entities:
    """The entities that are asked for, numbered."""

    def __init__(self, keys: pl.DataFrame) -> None:
        known = _widened(keys).drop_nulls()
        known = known.to_series().unique().to_frame() if known.width == 1 else known.unique()
        self._table = known.with_row_index(_NUMBER)
        self._are_few = len(known) <= _FEW
        # Few texts are numbered fastest by a type of their own, anything else by a join.
        self._texts = pl.Enum(known.to_series()) if self._are_few and known.dtypes == [pl.String] else None

    def numbers(self, keys: pl.DataFrame) -> Numbers:
        """The number of each row's entity; _NO_NUMBER for one that is not asked for, and for a null key."""
        rows = _widened(keys)
        if self._texts is not None:
            numbers = rows.to_series().cast(self._texts, strict=False).to_physical().cast(pl.UInt32)
        else:
            numbers = rows.join(self._table, on=rows.columns, how="left", maintain_order="left")[_NUMBER]
        return numbers.fill_null(_NO_NUMBER).to_numpy()

    def ordered(self, numbers: Numbers) -> Places:
        """Number and place of each row as one number, sorted. Rows without an entity are left out."""
        if self._are_few:
            # NumPy sorts 16 bits by radix, three times as fast. _NO_NUMBER becomes the greatest of them.
            places = np.argsort(numbers.astype(np.uint16), kind="stable")
            places = places[: len(numbers) - np.count_nonzero(numbers == _NO_NUMBER)]
        else:
            places = np.flatnonzero(numbers != _NO_NUMBER)
        together = numbers.take(places).astype(np.int64)
        together *= len(numbers)
        together += places
        return together if self._are_few else pl.Series(together).sort().to_numpy()


def _widened(keys: pl.DataFrame) -> pl.DataFrame:
    """Whole numbers as 64 bits and all kinds of text as text, so that tables of several types can be joined."""
    texts = pl.selectors.by_dtype(pl.Categorical, pl.Enum)
    return keys.with_columns(pl.selectors.integer().cast(pl.Int64, strict=False), texts.cast(pl.String))


def columns_at(values: pl.DataFrame, places: Places) -> list[pl.Series]:
    """Each column's values at these places; null at NOTHING."""
    # Polars' own type of index. NOTHING becomes its greatest number, which is then made null.
    index = pl.Series(places.astype(np.uint32))
    index = pl.select(pl.when(index != _NO_NUMBER).then(index)).to_series()
    return [column.gather(index) for column in values]

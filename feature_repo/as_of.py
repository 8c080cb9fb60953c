"""Which value holds at which moment: the search at the heart of the point-in-time join.

Both sides are in order of time, so a place stands for a moment. Entities get numbers; number and place together are one
whole number, in which sorting groups by entity and keeps the order of time, and one binary search finds the last value
of an entity before a moment. Several times faster than hashing every row to its entity's group, and exact.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

Places = NDArray[np.int64]
_CODE = "__mlway_code"
NOTHING = -1
"""The place of a value that is not there."""
_NO_INDEX = 2**32 - 1


class Asked:
    """Moments in order of time, at each of which an entity's value is asked for."""

    def __init__(self, moments: pl.Series, keys: pl.DataFrame) -> None:
        self.moments = moments.cast(pl.Int64).to_numpy()
        self._keys = keys.columns
        self._codes = _widened(keys).drop_nulls().unique().with_row_index(_CODE) if self._keys else None
        codes = self._numbered(keys)
        # By entity, and within it by time. Rows without an entity are not among them.
        self.codes, self.places = np.divmod(_by_entity(codes), max(len(codes), 1))

    def newest(self, keys: pl.DataFrame, usable_from: pl.Series) -> Places:
        """For each moment the place of the entity's last value that is usable at it, or NOTHING.

        `keys` and `usable_from` are the values' entities and moments, in the order in which values replace each other.
        """
        # How many values, of whatever entity, are usable at each moment.
        counts = np.searchsorted(usable_from.cast(pl.Int64).to_numpy(), self.moments, side="right")
        if self._codes is None:
            return counts - 1
        codes, size = self._numbered(keys), len(usable_from)
        ordered = _by_entity(codes)
        found = np.full(len(self.moments), NOTHING, np.int64)
        if len(ordered):
            first = self.codes * size
            hit = np.searchsorted(ordered, first + counts.take(self.places), side="left") - 1
            last = ordered.take(hit, mode="clip") - first
            last[(hit < 0) | (last < 0)] = NOTHING
            found[self.places] = last
        return found

    def _numbered(self, keys: pl.DataFrame) -> Places:
        """The number of each row's entity; NOTHING for one that is not asked for, and for a null key."""
        if self._codes is None:
            return np.zeros(len(self.moments), np.int64)
        numbered = _widened(keys).join(self._codes, on=self._keys, how="left", maintain_order="left")[_CODE]
        return numbered.cast(pl.Int64).fill_null(NOTHING).to_numpy()


def _widened(keys: pl.DataFrame) -> pl.DataFrame:
    """Whole numbers as 64 bits and all kinds of text as text, so that tables of several types can be joined."""
    texts = pl.selectors.by_dtype(pl.Categorical, pl.Enum)
    return keys.with_columns(pl.selectors.integer().cast(pl.Int64, strict=False), texts.cast(pl.String))


def _by_entity(codes: Places) -> Places:
    """Number and place of each row as one number, sorted. Rows without an entity are left out."""
    if len(codes) and codes.min() >= 0:
        together = codes * len(codes) + np.arange(len(codes))
    else:
        places = np.flatnonzero(codes >= 0)
        together = codes[places] * len(codes) + places
    return pl.Series(together).sort().to_numpy()


def columns_at(values: pl.DataFrame, places: Places) -> list[pl.Series]:
    """Each column's values at these places; null at NOTHING."""
    # Polars' own type of index. NOTHING becomes its greatest number, which is then made null.
    index = pl.Series(places.astype(np.uint32))
    index = pl.select(pl.when(index != _NO_INDEX).then(index)).to_series()
    return [column.gather(index) for column in values]

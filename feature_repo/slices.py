"""A large point-in-time join in time slices, so that memory is bounded.

Entity rows are cut by time. A slice needs the values that become usable within it and, for each entity, the newest
value from before: that is carried from slice to slice, or found anew where slices run apart (see ray_slices.py).
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from feature_repo.point_in_time import (
    ROW,
    Found,
    View,
    alive_since,
    by_time,
    columns_of,
    joined_with,
    newest_usable,
    point_in_time_join,
    resorted,
    restricted,
    search,
    usable,
    with_columns_of,
    with_values,
)

_HISTORY_ROWS = 4_000_000
_PIECE = "__piece"
_TEXT_BYTES = 32


@dataclass(frozen=True)
class Join:
    """Entity rows to join with views. `timestamp` is the column of their moments."""

    entities: pl.DataFrame
    timestamp: str
    views: Sequence[View]


def time_slices(join: Join, rows: int) -> Iterator[pl.DataFrame]:
    """The entity rows by time, numbered by their place in the frame, in slices of so many rows."""
    moments = join.entities[join.timestamp]
    numbered = join.entities.with_row_index(ROW)
    order = None if moments.is_sorted() else by_time(join.entities, join.timestamp)
    for start in range(0, len(moments), rows):
        yield numbered[start : start + rows] if order is None else numbered[order[start : start + rows]]


def join_slice(part: pl.DataFrame, timestamp: str, views: Sequence[View]) -> pl.DataFrame:
    """One slice by itself: what was known before it is read from the views' history."""
    sources = [_Source(view, is_carried=not view.ttl) for view in views]
    return _join(part, timestamp, sources)


def joined_in_turn(join: Join, rows: int) -> Iterator[pl.DataFrame]:
    """The slices joined one after the other.

    Memory: a slice's rows, the values that are usable within its span, and for some views one value for each entity.
    """
    moments = join.entities[join.timestamp]
    first, last = _bounds(moments)
    span = (last - first) * rows / len(moments)
    sources = [_Source(view, is_carried=not view.ttl or view.ttl > span) for view in join.views]
    for part in time_slices(join, rows):
        yield _join(part, join.timestamp, sources)


class _Source:
    """A view's values for slices in order of time.

    Values that live shorter than a slice spans are read again for each slice; of others each entity's newest is carried
    from slice to slice.
    """

    def __init__(self, view: View, *, is_carried: bool) -> None:
        self.view = view
        self._is_carried = is_carried
        self._carried: tuple[datetime, pl.DataFrame] | None = None

    def values(self, first: datetime, last: datetime) -> pl.LazyFrame:
        """What is usable by `last` and may be seen from `first` on."""
        if not self._is_carried:
            return usable(alive_since(restricted(self.view, None, last), first))
        until, newest = self._carried or (first, _newest_before(self.view, first))
        return usable(restricted(self.view, until, last), newest)

    def carry(self, values: pl.DataFrame, last: datetime) -> None:
        """Keep what the next slice needs of the values that this one had."""
        if self._is_carried:
            self._carried = last, newest_usable(self.view, values, last)


def _newest_before(view: View, moment: datetime) -> pl.DataFrame:
    """Each entity's newest value as of a moment. History is taken in parts, of which only those values are kept."""
    newest: pl.DataFrame | None = None
    for start in range(0, view.values.select(pl.len()).collect().item(), _HISTORY_ROWS):
        part = restricted(with_values(view, view.values.slice(start, _HISTORY_ROWS)), None, moment)
        newest = newest_usable(view, resorted(view, usable(part, newest)).collect(), moment)
    return usable(view).head(0).collect() if newest is None else newest


def _join(part: pl.DataFrame, timestamp: str, sources: Sequence[_Source]) -> pl.DataFrame:
    first, last = part[timestamp][0], part[timestamp][-1]
    values = pl.collect_all([source.values(first, last) for source in sources])
    views = [source.view for source in sources]
    joined = joined_with(part, timestamp, views, [frame.lazy() for frame in values])
    for source, frame in zip(sources, values, strict=True):
        source.carry(frame, last)
    return joined


def whole(join: Join) -> pl.DataFrame:
    """The join in one piece, in the order of the entity rows."""
    return point_in_time_join(join.entities, join.timestamp, _needed(join))


def whole_in_pieces(join: Join, rows: int) -> Iterator[pl.DataFrame]:
    """The same in pieces of so many rows: all values are in memory, but never all of the result."""
    views = _needed(join)
    found = search(join.entities, join.timestamp, views, [usable(view) for view in views], lambda found: found)
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(join.entities), rows):
            here = (Found(one.values, one.places[start : start + rows]) for one in found)
            yield with_columns_of(join.entities[start : start + rows], pool.map(columns_of, here))


def fits(join: Join, megabytes: float) -> bool:
    """Whether the values of all views take no more memory than that, by a guess at the size of texts."""
    size = 0
    for view in join.views:
        width = sum(_TEXT_BYTES if kind == pl.String else 8 for kind in view.values.collect_schema().dtypes())
        size += width * view.values.select(pl.len()).collect().item()
    return size <= megabytes * 1_000_000


def _needed(join: Join) -> list[View]:
    """The views without what no entity row can see."""
    moments = join.entities[join.timestamp]
    if not len(moments):
        return list(join.views)
    first, last = _bounds(moments)
    return [alive_since(restricted(view, None, last), first) for view in join.views]


def _bounds(moments: pl.Series) -> tuple[datetime, datetime]:
    """The first and the last of some moments."""
    first, last = moments.min(), moments.max()
    if not isinstance(first, datetime) or not isinstance(last, datetime):
        raise TypeError(f"{moments.name!r} holds no moments but {moments.dtype}")
    return first, last


def in_memory(slices: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Joined slices as one frame in the order of the entity rows."""
    return pl.concat(slices).sort(ROW).drop(ROW)


def in_order(
    slices: Iterable[pl.DataFrame], rows: int, *, is_sorted: bool, folder: str | None
) -> Iterator[pl.DataFrame]:
    """Joined slices as pieces in the order of the entity rows, with no more than a slice's rows in memory.

    When the entity rows were not sorted by time, the pieces are gathered through files in `folder`.
    """
    if is_sorted:
        yield from (part.drop(ROW) for part in slices)
        return
    with tempfile.TemporaryDirectory(prefix="mlway-join-", dir=folder) as spilled:
        pieces = _spill(slices, rows, Path(spilled))
        for piece in range(pieces):
            parts = [pl.read_ipc(path) for path in sorted(Path(spilled).glob(f"{piece}-*.arrow"))]
            yield pl.concat(parts).sort(ROW).drop(ROW)


def _spill(slices: Iterable[pl.DataFrame], rows: int, folder: Path) -> int:
    """Write every slice's rows to the pieces that they belong to, while the next is joined. Returns how many pieces."""
    pieces = 0
    with ThreadPoolExecutor(1) as background:
        written: Future[int] | None = None
        for number, part in enumerate(slices):
            if written is not None:
                pieces = max(pieces, written.result())
            written = background.submit(_spill_slice, part, number, rows, folder)
        return max(pieces, written.result()) if written is not None else pieces


def _spill_slice(part: pl.DataFrame, number: int, rows: int, folder: Path) -> int:
    pieces = part.with_columns((pl.col(ROW) // rows).alias(_PIECE)).partition_by(
        _PIECE, as_dict=True, include_key=False
    )
    for (piece,), group in pieces.items():
        group.write_ipc(folder / f"{piece}-{number:06}.arrow")
    return 1 + max(int(piece) for (piece,) in pieces)

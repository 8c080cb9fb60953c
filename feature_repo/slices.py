"""A large point-in-time join in time slices, so that memory is bounded.

Entity rows are cut by time. A slice needs the values that become usable within it and, for each entity, the newest
value from before: that is carried from slice to slice, or found anew where slices run apart (see ray_slices.py).
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from feature_repo.point_in_time import (
    ROW,
    View,
    alive_since,
    by_time,
    joined_columns,
    newest_usable,
    point_in_time_join,
    resorted,
    restricted,
    usable,
    with_values,
)

_HISTORY_ROWS = 4_000_000


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
    joined, _ = _advance(part, timestamp, views, _known_at(part[timestamp][0], views))
    return joined


def joined_in_turn(join: Join, rows: int) -> Iterator[pl.DataFrame]:
    """The slices joined one after the other, each view's values read once.

    Memory: a slice's rows, the values that become usable within its span, and one value for each entity.
    """
    known: _Known | None = None
    for part in time_slices(join, rows):
        known = known or _known_at(part[join.timestamp][0], join.views)
        joined, known = _advance(part, join.timestamp, join.views, known)
        yield joined


@dataclass(frozen=True)
class _Known:
    """What had become known up to a moment: for each view, each entity's newest value."""

    moment: datetime
    newest: Sequence[pl.DataFrame]


def _known_at(moment: datetime, views: Sequence[View]) -> _Known:
    return _Known(moment, [_newest_before(view, moment) for view in views])


def _newest_before(view: View, moment: datetime) -> pl.DataFrame:
    if view.ttl:
        return newest_usable(view, usable(alive_since(restricted(view, None, moment), moment)).collect(), moment)
    # All of history counts: it is taken in parts, of which only each entity's newest value is kept.
    newest: pl.DataFrame | None = None
    for start in range(0, view.values.select(pl.len()).collect().item(), _HISTORY_ROWS):
        part = restricted(with_values(view, view.values.slice(start, _HISTORY_ROWS)), None, moment)
        newest = newest_usable(view, resorted(view, usable(part, newest)).collect(), moment)
    return usable(view).head(0).collect() if newest is None else newest


def _advance(part: pl.DataFrame, timestamp: str, views: Sequence[View], known: _Known) -> tuple[pl.DataFrame, _Known]:
    last = part[timestamp][-1]
    fresh = [
        usable(restricted(view, known.moment, last), before) for view, before in zip(views, known.newest, strict=True)
    ]
    values = pl.collect_all(fresh)
    joined = part.hstack(joined_columns(part, timestamp, views, [frame.lazy() for frame in values]))
    newest = [newest_usable(view, frame, last) for view, frame in zip(views, values, strict=True)]
    return joined, _Known(last, newest)


def whole(join: Join) -> pl.DataFrame:
    """The join in one piece, in the order of the entity rows."""
    moments, views = join.entities[join.timestamp], join.views
    if len(moments):
        # What cannot matter need not be read.
        first, last = moments.min(), moments.max()
        views = [alive_since(restricted(view, None, last), first) for view in views]  # type: ignore[arg-type]
    return point_in_time_join(join.entities, join.timestamp, views)


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
    """Write every slice's rows to the pieces that they belong to. Returns the number of pieces."""
    pieces = 0
    for number, part in enumerate(slices):
        places = (pl.col(ROW) // rows).alias("__piece")
        for (piece,), group in part.group_by(places):
            group.write_ipc(folder / f"{piece}-{number:06}.arrow")
            pieces = max(pieces, int(piece) + 1)
    return pieces

"""What stored messages say as of a moment, view by view: the readers of all stores share it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from configs.features import TableFeatures, WindowedFeatures
from feature_repo.online_layout import EntityKeys, column_decoder
from serving.online_features import FeatureColumns

_MICROSECOND = timedelta(microseconds=1)
_EMPTY_WINDOW = {"count": 0, "distinct_count": 0}
"""What a function gives of no rows; the others give null."""


@dataclass(frozen=True)
class ViewColumns:
    """A view's values for some entities: columns in the order of its features."""

    values: list[list[Any]]
    ages: list[float | None]
    """Seconds; None where the view has nothing to say."""


class ViewReader:
    """Turns the stored messages of one view into values. Everything that a read need not repeat is done here once."""

    def __init__(self, group: TableFeatures) -> None:
        self.name = group.name
        self.features = list(group.types)
        self._decoders = [column_decoder(kind) for kind in group.types.values()]
        self._time_to_live = group.time_to_live // _MICROSECOND
        self._windows = _windows(group) if isinstance(group, WindowedFeatures) else {}

    def columns(
        self, moments: Sequence[int | None], messages: Sequence[Sequence[bytes | None]], as_of: int
    ) -> ViewColumns:
        """The values as of a moment, in microseconds as `moments`, which say of when each entity's messages are.

        Raises OnlineStoreError for a message of another type than is declared.
        """
        oldest = as_of - self._time_to_live if self._time_to_live else None
        alive = [moment is not None and moment <= as_of and (oldest is None or moment >= oldest) for moment in moments]
        values = [decode(column) for decode, column in zip(self._decoders, messages, strict=True)]
        if False in alive:
            gone = [row for row, is_alive in enumerate(alive) if not is_alive]
            for column in values:
                for row in gone:
                    column[row] = None
        ages = [
            (as_of - moment) / 1e6 if is_alive else None  # type: ignore[operator]
            for moment, is_alive in zip(moments, alive, strict=True)
        ]
        for window, features in self._windows.items():
            self._empty(values, moments, alive, as_of - window, features)
        return ViewColumns(values, ages)

    @staticmethod
    def _empty(
        values: list[list[Any]],
        moments: Sequence[int | None],
        alive: Sequence[bool],
        start: int,
        features: Sequence[tuple[int, int | None]],
    ) -> None:
        """A window is open where it starts: what became known at that moment has left it."""
        for row, moment in enumerate(moments):
            if alive[row] and moment is not None and moment <= start:
                for feature, value in features:
                    values[feature][row] = value


def _windows(group: WindowedFeatures) -> dict[int, list[tuple[int, int | None]]]:
    """Window in microseconds to its features, by place, each with its value once the window is empty."""
    windows: dict[int, list[tuple[int, int | None]]] = {}
    for place, (aggregation, window) in enumerate(group.parts.values()):
        windows.setdefault(window // _MICROSECOND, []).append((place, _EMPTY_WINDOW.get(aggregation.function)))
    return windows


def assemble(views: Sequence[ViewReader], columns: Mapping[str, ViewColumns], count: int) -> FeatureColumns:
    """The answer to a read of `count` rows, from the columns of each view by its name."""
    values: dict[str, list[Any]] = {}
    ages: dict[str, list[float | None]] = {}
    missing: list[list[str]] = [[] for _ in range(count)]
    for view in views:
        read = columns[view.name]
        values.update(zip(view.features, read.values, strict=True))
        ages[view.name] = read.ages
        if None in read.ages:
            for row, age in enumerate(read.ages):
                if age is None:
                    missing[row].append(view.name)
    return FeatureColumns(values, ages, missing)


@dataclass(frozen=True)
class EntityKind:
    """Views that are keyed by the same join keys."""

    keys: EntityKeys
    views: list[ViewReader]


def entity_kinds(groups: Sequence[TableFeatures], views: Sequence[ViewReader]) -> list[EntityKind]:
    """The views of the groups, by what they are keyed by."""
    kinds: dict[tuple[tuple[str, str], ...], EntityKind] = {}
    for group, view in zip(groups, views, strict=True):
        keys = tuple(sorted(group.join_keys.items()))
        kinds.setdefault(keys, EntityKind(EntityKeys(group.join_keys), [])).views.append(view)
    return list(kinds.values())


def row_count(entities: Mapping[str, Sequence[Any]]) -> int:
    """How many rows are asked for."""
    return len(next(iter(entities.values()), ()))

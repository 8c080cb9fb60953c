"""What stored values say as of a moment, view by view: the readers of all stores share it."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from configs.features import TableFeatures, WindowedFeatures
from feature_repo.online_layout import NEVER, OnlineView, online_view
from serving.online_features import FeatureColumns

_MICROSECOND = timedelta(microseconds=1)


class ViewColumns(NamedTuple):
    """A view's values for some entities: columns in the order of its features."""

    values: list[list[Any]]
    ages: list[float | None]
    """Seconds; None where the view has nothing to say."""


class ViewReader:
    """Says what the stored values of one view are worth at a moment. What a read need not repeat is done here once."""

    def __init__(self, group: TableFeatures) -> None:
        self.name = group.name
        self.stored: OnlineView = online_view(group)
        self.features = list(group.types)
        self._time_to_live = group.time_to_live // _MICROSECOND
        self._windows = _windows(group) if isinstance(group, WindowedFeatures) else []
        limits = [window for window, _ in self._windows] + [self._time_to_live or -NEVER]
        self._first_to_change = min(limits)
        """Microseconds of age in which stored values stay what they are."""

    def columns(self, moments: Sequence[int | None], values: list[list[Any]], as_of: int) -> ViewColumns:
        """The values as of a moment, in microseconds as `moments`, which say of when each entity's `values` are.

        The lists in `values` are changed.
        """
        oldest = as_of - self._time_to_live if self._time_to_live else NEVER
        alive = [moment if moment is not None and oldest <= moment <= as_of else None for moment in moments]
        if None in alive:
            for row in [row for row, moment in enumerate(alive) if moment is None]:
                for column in values:
                    column[row] = None
        for window, features in self._windows:
            start = as_of - window
            # A window is open where it starts: what became known at that moment has left it.
            for row in [row for row, moment in enumerate(alive) if moment is not None and moment <= start]:
                for place, value in features:
                    values[place][row] = value
        return ViewColumns(values, [None if moment is None else (as_of - moment) / 1e6 for moment in alive])

    def row(self, moment: int | None, values: Sequence[Any], as_of: int) -> tuple[Sequence[Any], float | None]:
        """As `columns`, of one entity: its values, and their age in seconds."""
        if moment is not None and as_of - self._first_to_change < moment <= as_of:  # what most reads are
            return values, (as_of - moment) / 1e6
        columns, (age,) = self.columns([moment], [[value] for value in values], as_of)
        return [value for (value,) in columns], age


def _windows(group: WindowedFeatures) -> list[tuple[int, list[tuple[int, int | None]]]]:
    """Each window in microseconds with its features, by place, and their values once it is empty."""
    windows: dict[int, list[tuple[int, int | None]]] = {}
    for place, (aggregation, window) in enumerate(group.parts.values()):
        windows.setdefault(window // _MICROSECOND, []).append((place, aggregation.of_nothing))
    return list(windows.items())


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


def row_count(entities: Mapping[str, Sequence[Any]]) -> int:
    """How many rows are asked for."""
    return len(next(iter(entities.values()), ()))

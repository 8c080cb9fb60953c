"""Pictures of drift and quality."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Bar(NamedTuple):
    """What was measured of a column, a group or a slice, what it is held against, and whether that is a breach."""

    name: str
    value: float
    limit: float
    is_past: bool


def limits_plot(measures: Mapping[str, Sequence[Bar]]) -> "Figure":
    """A panel for each measure that is past its limit somewhere, or for the first: bars, each with its limit as a mark.

    What is past it is red.
    """
    from matplotlib.figure import Figure

    past = {measure: bars for measure, bars in measures.items() if any(bar.is_past for bar in bars)}
    shown = past or dict(list(measures.items())[:1])
    heights = [0.6 + 0.28 * max(len(bars), 1) for bars in shown.values()]
    figure = Figure(figsize=(7, sum(heights)), layout="constrained")
    panels = figure.subplots(len(shown), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axes, (measure, bars) in zip(panels, shown.items(), strict=True):
        _draw_bars(axes, measure, bars)
    return figure


def _draw_bars(axes: "Axes", measure: str, bars: Sequence[Bar]) -> None:
    places = range(len(bars))
    axes.barh(places, [bar.value for bar in bars], color=["tab:red" if bar.is_past else "tab:blue" for bar in bars])
    axes.scatter([bar.limit for bar in bars], places, marker="|", s=120, color="black", label="limit", zorder=3)
    axes.set_yticks(places, [bar.name for bar in bars])
    axes.invert_yaxis()
    axes.set(xlabel=measure)
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3, axis="x")


Point = tuple[date, float, tuple[float, float] | None]
"""A day, its value, and the value's interval."""


def quality_plot(metric: str, days: Sequence[Point], expected: float) -> "Figure":
    """The metric of each day with its interval, their mean, and the mean that was expected."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    values = [value for _, value, _ in days]
    below, above = ([0.0 if ends is None else abs(ends[end] - value) for _, value, ends in days] for end in (0, 1))
    places = np.array([day for day, _, _ in days], "datetime64[D]")
    axes.errorbar(places, values, yerr=[below, above], marker="o", capsize=2, label="by day, 95% interval")
    axes.axhline(sum(values) / len(values), color="tab:blue", linestyle="--", label="mean of the days")
    axes.axhline(expected, color="black", linestyle=":", label="mean of the days that judged it")
    axes.set(ylabel=metric)
    axes.legend()
    axes.grid(alpha=0.3)
    figure.autofmt_xdate()
    return figure

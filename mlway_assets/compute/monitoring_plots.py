"""Pictures of drift and quality."""

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Bar(NamedTuple):
    """A column's population stability index, and its limit."""

    name: str
    psi: float
    limit: float


def drift_plot(bars: Sequence[Bar]) -> "Figure":
    """The columns from top to bottom, each with its limit as a mark; what is past it is red."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.6 + 0.28 * max(len(bars), 1)), layout="constrained")
    axes = figure.subplots()
    places = range(len(bars))
    colours = ["tab:red" if bar.psi > bar.limit else "tab:blue" for bar in bars]
    axes.barh(places, [bar.psi for bar in bars], color=colours)
    axes.scatter([bar.limit for bar in bars], places, marker="|", s=120, color="black", label="limit", zorder=3)
    axes.set_yticks(places, [bar.name for bar in bars])
    axes.invert_yaxis()
    axes.set(xlabel="Population stability index")
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3, axis="x")
    return figure


def quality_plot(metric: str, days: Sequence[tuple[date, float]], expected: float) -> "Figure":
    """The metric of each day, their mean, and the mean that was expected."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    values = [value for _, value in days]
    axes.plot(np.array([day for day, _ in days], "datetime64[D]"), values, marker="o", label="by day")
    axes.axhline(sum(values) / len(values), color="tab:blue", linestyle="--", label="mean of the days")
    axes.axhline(expected, color="black", linestyle=":", label="mean of the validation days")
    axes.set(ylabel=metric)
    axes.legend()
    axes.grid(alpha=0.3)
    figure.autofmt_xdate()
    return figure

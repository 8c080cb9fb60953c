"""The picture of a model's contributions: a dot for each sampled row, beside its feature, coloured by the value."""

from typing import TYPE_CHECKING

import numpy as np

from mlway_assets.compute.contributions import Contributions
from mlway_assets.compute.evaluation import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

MOST_FEATURES = 20
_BINS = 90
_SHOWN_SHARE = 0.9997
"""A few rows far out would leave no room for all others: they are drawn at the edge."""
_COLOURS = ("#1e76d2", "#8b45a8", "#e8173f")
_NO_ORDER = "0.65"
"""Grey: a text, whose values have no order, or a missing value."""


def contribution_plot(found: Contributions) -> "Figure":
    """The features of most importance from top to bottom; rows to the right have a higher score for that feature."""
    from matplotlib.figure import Figure

    shown = list(found.importance.items())[:MOST_FEATURES]
    figure = Figure(figsize=(9, 1.2 + 0.29 * len(shown)), layout="constrained")
    axes = figure.subplots()
    edges = np.quantile(found.added, [1 - _SHOWN_SHARE, _SHOWN_SHARE])
    places = {name: place for place, name in enumerate(found.features)}
    for line, (name, _) in enumerate(shown):
        column = places[name]
        added = np.clip(found.added[:, column], *edges)
        _draw(axes, line, added, found.values[:, column], edges, is_text=found.features[name] == "string")
    axes.axvline(0, color="0.3", linewidth=0.8, zorder=0)
    axes.set_yticks(range(len(shown)), [f"{name}  {mean:.3g}" for name, mean in shown], fontsize=8)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel("Contribution to the raw score (what is further out, at the edge); beside each name its mean size")
    axes.grid(alpha=0.25, axis="y")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    _key(figure, axes)
    return figure


def _draw(axes: "Axes", line: int, added: Array, values: Array, edges: Array, *, is_text: bool) -> None:
    heights = line + _spread(added, edges)
    has_order = np.isfinite(values) & (not is_text)
    axes.scatter(added[~has_order], heights[~has_order], s=7, color=_NO_ORDER, linewidths=0, rasterized=True)
    axes.scatter(
        added[has_order],
        heights[has_order],
        s=7,
        c=_ranks(values[has_order]),
        cmap=_colours(),
        vmin=0,
        vmax=1,
        linewidths=0,
        rasterized=True,
    )


def _spread(added: Array, edges: Array) -> Array:
    """How far each dot stands from its line: dots that would lie on each other are laid out above and below it."""
    low, high = edges
    bins = np.zeros(len(added), np.int64)
    if high > low:
        bins = np.minimum(((added - low) / (high - low) * _BINS).astype(np.int64), _BINS - 1)
    order = np.argsort(bins, kind="stable")
    starts = np.searchsorted(bins[order], bins[order], side="left")
    within = np.empty(len(added))
    within[order] = np.arange(len(added)) - starts
    sides = np.where(within % 2 == 0, 1, -1) * np.ceil(within / 2)
    most = np.abs(sides).max()
    return np.asarray(sides / most * 0.4 if most else sides, np.float64)


def _ranks(values: Array) -> Array:
    """From 0, the lowest value, to 1: what is far out takes no colours from the others."""
    if not len(values):
        return values
    _, place = np.unique(values, return_inverse=True)
    most = place.max()
    return np.asarray(place / most if most else np.full(len(values), 0.5), np.float64)


def _key(figure: "Figure", axes: "Axes") -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), _colours()), ax=axes, aspect=60, pad=0.01)
    bar.set_ticks([0, 1], labels=["low", "high"])
    bar.set_label("Value of the feature (grey: a text, or missing)")
    bar.outline.set_visible(False)


def _colours() -> "Colormap":
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("low_to_high", _COLOURS)

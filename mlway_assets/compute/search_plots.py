"""A picture of a search: how much better or worse each trial was, and the best so far."""

from statistics import mean
from typing import TYPE_CHECKING

from mlway_assets.compute.search import State, Study, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HISTORY = "search_history"
"""Name of the picture."""
_MARKS: dict[State, tuple[str, str]] = {"complete": ("o", "tab:blue"), "pruned": ("x", "tab:grey")}


def history_plot(study: Study) -> "Figure":
    """Trials by their number, each against the first complete one, and the best complete one so far.

    Folds are not equally hard, so a pruned trial is compared after as many folds as it has had.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes, first = figure.subplots(), study.complete[0]
    for state, (mark, colour) in _MARKS.items():
        trials = [trial for trial in study.trials if trial.state == state]
        gains = [_gain(trial, first) for trial in trials]
        axes.scatter([each.number for each in trials], gains, marker=mark, color=colour, label=state)
    best = min if study.is_lower_better else max
    numbers, reached = zip(*((each.number, _gain(each, first)) for each in study.complete), strict=True)
    so_far = [best(reached[: place + 1]) for place in range(len(reached))]
    last = study.trials[-1].number
    axes.step([*numbers, last], [*so_far, so_far[-1]], where="post", color="tab:orange", label="best so far")
    axes.set(xlabel="Trial", ylabel=f"{study.metric} against trial {first.number}, same folds")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    axes.grid(alpha=0.3)
    return figure


def _gain(trial: Trial, first: Trial) -> float:
    return trial.value - mean(first.values[: len(trial.values)])

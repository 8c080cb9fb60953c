"""A picture of a search: what each trial reached, and the best so far."""

from typing import TYPE_CHECKING

from mlway_assets.compute.search import State, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HISTORY = "search_history"
"""Name of the picture."""
_MARKS: dict[State, tuple[str, str]] = {"complete": ("o", "tab:blue"), "pruned": ("x", "tab:grey")}


def history_plot(study: Study) -> "Figure":
    """Trials by their number: the mean over the folds that each came to, and the best complete one so far."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for state, (mark, colour) in _MARKS.items():
        trials = [trial for trial in study.trials if trial.state == state]
        axes.scatter(
            [each.number for each in trials], [each.value for each in trials], marker=mark, color=colour, label=state
        )
    complete, best = study.complete, (min if study.is_lower_better else max)
    reached = [best(each.value for each in complete[: count + 1]) for count in range(len(complete))]
    axes.step([each.number for each in complete], reached, where="post", color="tab:orange", label="best so far")
    axes.set(xlabel="Trial", ylabel=f"{study.metric}, mean of folds")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    axes.grid(alpha=0.3)
    return figure

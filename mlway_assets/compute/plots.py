"""Pictures of a candidate: ROC and precision-recall curves, calibration, feature importance."""

from typing import TYPE_CHECKING

from mlway_assets.compute.evaluation import Array, calibration_bins
from mlway_assets.compute.training import Candidate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_FEATURES = 20


def candidate_plots(candidate: Candidate) -> dict[str, "Figure"]:
    """File name to figure, of the test part."""
    from matplotlib.figure import Figure
    from sklearn import metrics

    labels, scores = candidate.test_labels, candidate.test_scores
    figures = {name: Figure(figsize=(5, 4)) for name in ("roc", "precision_recall", "calibration", "importance")}
    false_positives, true_positives, _ = metrics.roc_curve(labels, scores)
    _curve(figures["roc"].subplots(), false_positives, true_positives, "False positive rate", "True positive rate")
    precision, recall, _ = metrics.precision_recall_curve(labels, scores)
    _curve(figures["precision_recall"].subplots(), recall, precision, "Recall", "Precision")
    _calibration(figures["calibration"].subplots(), labels, scores)
    _importance(figures["importance"].subplots(), candidate.importance)
    return figures


def _curve(axes: "Axes", x: Array, y: Array, x_label: str, y_label: str) -> None:
    axes.plot(x, y)
    axes.set(xlabel=x_label, ylabel=y_label, xlim=(0, 1), ylim=(0, 1.01))
    axes.grid(alpha=0.3)


def _calibration(axes: "Axes", labels: Array, scores: Array) -> None:
    predicted, observed, _ = calibration_bins(labels, scores, bins=20)
    axes.plot([0, 1], [0, 1], linestyle="--", color="grey", label="perfect")
    axes.plot(predicted, observed, marker="o", label="model")
    axes.set(xlabel="Mean score", ylabel="Rate of positives", xlim=(0, 1), ylim=(0, 1))
    axes.legend()
    axes.grid(alpha=0.3)


def _importance(axes: "Axes", importance: dict[str, float]) -> None:
    best = sorted(importance.items(), key=lambda item: item[1])[-MOST_FEATURES:]
    axes.barh([name for name, _ in best], [gain for _, gain in best])
    axes.set(xlabel="Gain")
    axes.tick_params(axis="y", labelsize=7)

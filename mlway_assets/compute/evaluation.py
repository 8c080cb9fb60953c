"""How good probabilities are: discrimination, log loss, Brier score, calibration."""

import numpy as np
from numpy.typing import NDArray

from configs.errors import MlwayError

Array = NDArray[np.float64]


class OneClassError(MlwayError):
    """All labels are of one class, so that ranking metrics have no meaning."""

    def __init__(self, rows: int) -> None:
        super().__init__(
            f"All {rows} labels are of one class.\nHint: check the label's expression and the dates of the split."
        )


def binary_metrics(labels: Array, scores: Array) -> dict[str, float]:
    """ROC AUC, average precision, log loss, Brier score, expected calibration error, and the rate of positives.

    Raises OneClassError.
    """
    from sklearn import metrics

    if len(np.unique(labels)) < 2:
        raise OneClassError(len(labels))
    return {
        "roc_auc": float(metrics.roc_auc_score(labels, scores)),
        "average_precision": float(metrics.average_precision_score(labels, scores)),
        "log_loss": float(metrics.log_loss(labels, scores)),
        "brier": float(metrics.brier_score_loss(labels, scores)),
        "calibration_error": calibration_error(labels, scores),
        "positive_rate": float(labels.mean()),
        "rows": float(len(labels)),
    }


def calibration_bins(labels: Array, scores: Array, bins: int = 10) -> tuple[Array, Array, Array]:
    """Mean score, rate of positives and share of rows in each of `bins` equally filled bins of the score."""
    order = np.argsort(scores, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return (
        np.array([scores[part].mean() for part in parts]),
        np.array([labels[part].mean() for part in parts]),
        np.array([len(part) / len(labels) for part in parts]),
    )


def calibration_error(labels: Array, scores: Array, bins: int = 10) -> float:
    """Expected calibration error over equally filled bins: sum of share * |rate - mean score|.

    Naeini, Cooper, Hauskrecht: Obtaining Well Calibrated Probabilities Using Bayesian Binning (AAAI 2015).
    """
    predicted, observed, share = calibration_bins(labels, scores, bins)
    return float(np.sum(share * np.abs(observed - predicted)))

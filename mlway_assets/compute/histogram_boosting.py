"""Fit scikit-learn's histogram gradient boosting, and say it in trees that score the same."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.algorithms import HistogramBoosting
from configs.tasks import Objective
from mlway_assets.compute.tree_text import Leaf, Node, Split, code_places

Matrix = NDArray[np.float64]
_REGRESSION_LOSS: dict[Objective, str] = {"l2": "squared_error", "l1": "absolute_error", "quantile": "quantile"}
_MISSING = float("nan")


@dataclass(frozen=True)
class Learned:
    """The fitted model, how its columns came from the feature matrix, and after how many rounds it was best."""

    model: Any
    columns: "Columns"
    rounds: int

    def trees(self) -> list[Node]:
        """Trees that sum to the model's raw score after its best round; the first is what it starts with."""
        start = Leaf(float(self.model._baseline_prediction.ravel()[0]), 0)
        predictors = self.model._predictors[: self.rounds]
        return [start, *(_tree(predictor, self.columns) for [predictor] in predictors)]


@dataclass(frozen=True)
class Columns:
    """How scikit-learn gets the feature matrix: texts first, each of its codes renumbered to those that it can tell.

    scikit-learn tells at most `max_bins` texts apart: rarer ones count as missing. It has no column for a feature that
    training never saw a value of.
    """

    order: tuple[int, ...]
    codes: dict[int, NDArray[np.int64]]

    def of(self, matrix: Matrix) -> Matrix:
        """The feature matrix in scikit-learn's order and codes."""
        columns = [self._coded(matrix[:, place], self.codes.get(place)) for place in self.order]
        return np.column_stack(columns)

    @staticmethod
    def _coded(values: Matrix, codes: NDArray[np.int64] | None) -> Matrix:
        if codes is None:
            return values
        places, is_known = code_places(codes, values)
        return np.where(is_known, places, _MISSING)


def learn_columns(matrix: Matrix, categorical: tuple[int, ...], most: int) -> Columns:
    """The columns of a model that learns from `matrix`, of whose columns those at `categorical` hold texts' codes."""
    known = [place for place in range(matrix.shape[1]) if not np.isnan(matrix[:, place]).all()]
    texts = [place for place in known if place in categorical]
    numbers = [place for place in known if place not in categorical]
    return Columns((*texts, *numbers), {place: _frequent(matrix[:, place], most) for place in texts})


def _frequent(values: Matrix, most: int) -> NDArray[np.int64]:
    found, counts = np.unique(values[~np.isnan(values)].astype(np.int64), return_counts=True)
    kept = np.argsort(-counts, kind="stable")[:most]
    return np.sort(found[kept])


def learn(
    spec: HistogramBoosting,
    objective: Objective,
    columns: Columns,
    training: tuple[Matrix, Matrix],
    validation: tuple[Matrix, Matrix],
    *,
    rounds: int,
    patience: int,
    seed: int,
    quantile: float = 0.5,
) -> Learned:
    """Fit on `training`, features and targets, until `validation` has not got better for `patience` rounds."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    options: dict[str, Any] = {
        **spec.model_dump(),
        "max_iter": rounds,
        "categorical_features": list(range(len(columns.codes))),
        "early_stopping": True,
        "n_iter_no_change": patience,
        "tol": 0.0,
        "random_state": seed,
    }
    if objective == "binary":
        model = HistGradientBoostingClassifier(**options)
    else:
        loss = _REGRESSION_LOSS[objective]
        model = HistGradientBoostingRegressor(loss=loss, quantile=quantile if loss == "quantile" else None, **options)
    (rows, targets), (held_out, truth) = training, validation
    with threadpool_limits(1, user_api="openmp"):  # It adds gradients up in as many parts as there are threads.
        model.fit(columns.of(rows), targets, X_val=columns.of(held_out), y_val=truth)
    # Its validation scores begin with that of no tree at all.
    return Learned(model, columns, max(int(np.argmax(model.validation_score_)), 1))


def _tree(predictor: Any, columns: Columns) -> Node:
    """The predictor's tree. Nodes come after their parents, so that all below a node is made before it."""
    made: dict[int, Node] = {}
    for place in range(len(predictor.nodes) - 1, -1, -1):
        node = predictor.nodes[place]
        if node["is_leaf"]:
            made[place] = Leaf(float(node["value"]), int(node["count"]))
        else:
            made[place] = _split(node, made[int(node["left"])], made[int(node["right"])], predictor, columns)
    return made[0]


def _split(node: Any, left: Node, right: Node, predictor: Any, columns: Columns) -> Split:
    feature, gain, is_missing_left = (
        columns.order[int(node["feature_idx"])],
        float(node["gain"]),
        bool(node["missing_go_to_left"]),
    )
    if not node["is_categorical"]:
        return Split(feature, left, right, gain, float(node["num_threshold"]), is_missing_left)
    words = predictor.raw_left_cat_bitsets[int(node["bitset_idx"])]
    is_left = [bool(int(words[code // 32]) >> code % 32 & 1) for code in range(len(columns.codes[feature]))]
    # Missing texts go to the right in LightGBM: where they should not, the sides change places.
    if is_missing_left:
        left, right, is_left = right, left, [not each for each in is_left]
    codes = tuple(int(code) for code, is_one in zip(columns.codes[feature], is_left, strict=True) if is_one)
    return Split(feature, left, right, gain, codes=codes)

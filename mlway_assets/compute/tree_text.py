"""Trees in LightGBM's text format: the one form in which a model is stored, hashed, served and explained.

Which trees make up a fitted scikit-learn model is in histogram_boosting.py and logistic_regression.py.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

_CATEGORICAL, _DEFAULT_LEFT, _MISSING_IS_NAN = 1, 2, 8
"""Bits of LightGBM's `decision_type`."""
_BITS = 32


@dataclass(frozen=True)
class Leaf:
    """What a tree adds to the raw score of the rows that come here, and how many those were in training."""

    value: float
    count: int


@dataclass(frozen=True)
class Split:
    """Where rows part: to the left go numbers up to `threshold`, or texts with one of `codes`.

    Missing numbers go to the left where `is_missing_left`; missing texts go to the right. `gain` is what the split
    was worth, in whatever unit the algorithm has.
    """

    feature: int
    left: "Node"
    right: "Node"
    gain: float
    threshold: float = 0.0
    is_missing_left: bool = False
    codes: tuple[int, ...] | None = None

    @property
    def count(self) -> int:
        """Rows of training that came here."""
        return self.left.count + self.right.count

    @property
    def value(self) -> float:
        """The mean of its leaves, by their rows."""
        total = self.left.value * self.left.count + self.right.value * self.right.count
        return total / self.count if self.count else 0.0


Node = Leaf | Split


def booster_text(features: Sequence[str], objective: Literal["binary", "regression"], trees: Sequence[Node]) -> str:
    """A booster, as LightGBM itself writes it, whose raw score is the sum of the trees."""
    import lightgbm

    lines = ["tree", "version=v4", "num_class=1", "num_tree_per_iteration=1", "label_index=0"]
    lines += [f"max_feature_idx={len(features) - 1}"]
    lines += ["objective=" + {"binary": "binary sigmoid:1", "regression": "regression"}[objective]]
    lines += [f"feature_names={' '.join(features)}", f"feature_infos={' '.join(['[-inf:inf]'] * len(features))}"]
    for number, tree in enumerate(trees):
        lines += ["", f"Tree={number}", *_tree_lines(tree)]
    lines += ["", "end of trees", ""]
    return str(lightgbm.Booster(model_str="\n".join(lines)).model_to_string())


def code_places(codes: NDArray[np.int64], values: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where each value stands among sorted codes, and whether it does; a missing value does not."""
    padded = np.append(codes, -1)  # what stands behind all codes is none of them
    places = np.searchsorted(codes, values)
    return places, padded[places] == values


def _tree_lines(tree: Node) -> Iterator[str]:
    splits = [node for node in _walk(tree) if isinstance(node, Split)]
    leaves = [node for node in _walk(tree) if isinstance(node, Leaf)]
    places = {id(node): place for place, node in enumerate(splits)}
    places |= {id(node): -place - 1 for place, node in enumerate(leaves)}
    categorical = [each for each in splits if each.codes is not None]
    yield f"num_leaves={len(leaves)}"
    yield f"num_cat={len(categorical)}"
    if splits:
        yield "split_feature=" + _joined(each.feature for each in splits)
        yield "split_gain=" + _joined(each.gain for each in splits)
        texts = {id(each): float(number) for number, each in enumerate(categorical)}
        yield "threshold=" + _joined(texts.get(id(each), each.threshold) for each in splits)
        yield "decision_type=" + _joined(_decision(each) for each in splits)
        yield "left_child=" + _joined(places[id(each.left)] for each in splits)
        yield "right_child=" + _joined(places[id(each.right)] for each in splits)
    yield "leaf_value=" + _joined(each.value for each in leaves)
    yield "leaf_weight=" + _joined(float(each.count) for each in leaves)
    yield "leaf_count=" + _joined(each.count for each in leaves)
    if splits:
        yield "internal_value=" + _joined(each.value for each in splits)
        yield "internal_weight=" + _joined(float(each.count) for each in splits)
        yield "internal_count=" + _joined(each.count for each in splits)
    if categorical:
        bits = [_bit_set(each.codes or ()) for each in categorical]
        ends = [sum(len(each) for each in bits[:number]) for number in range(len(bits) + 1)]
        yield "cat_boundaries=" + _joined(ends)
        yield "cat_threshold=" + _joined(word for each in bits for word in each)
    yield "is_linear=0"
    yield "shrinkage=1"


def _walk(node: Node) -> Iterator[Node]:
    """The node and all below it, without a limit of depth; each before what is below it."""
    waiting = [node]
    while waiting:
        current = waiting.pop()
        yield current
        if isinstance(current, Split):
            waiting += [current.right, current.left]


def _decision(split: Split) -> int:
    if split.codes is not None:
        return _CATEGORICAL
    return _MISSING_IS_NAN | (_DEFAULT_LEFT if split.is_missing_left else 0)


def _bit_set(codes: Sequence[int]) -> list[int]:
    words = [0] * (max(codes, default=0) // _BITS + 1)
    for code in codes:
        words[code // _BITS] |= 1 << code % _BITS
    return words


def _joined(values: Iterable[float]) -> str:
    return " ".join(repr(value) for value in values)

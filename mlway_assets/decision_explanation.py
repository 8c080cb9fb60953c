"""Why an answer was what it was: its score again from the log and, apart from that, from the lake, by feature."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from configs.errors import MlwayError
from configs.products import ModelProduct
from feature_repo.column_types import POLARS_TYPES
from feature_repo.services import service_name
from feature_repo.store import historical_features, open_store
from feature_repo.windows import EVENT_TIMESTAMP
from mlway_assets.decision_lookup import FoundDecision, UnknownDecisionError, find_decision, parse_identity
from mlway_assets.decision_table import main_score
from mlway_assets.resources import Platform
from serving.decision_records import Decision, Record
from serving.scoring import ModelContract, ModelFileError, ScoringModel, feature_matrix, load_model

Matrix = NDArray[np.float64]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class DecisionModelError(MlwayError):
    """The model that made a decision is not there any more, or is another."""


@dataclass(frozen=True)
class ExplainedFeature:
    """One feature of one row: None where the log hides it, or the lake could not be asked; NaN where it is missing."""

    name: str
    logged: float | None
    in_lake: float | None
    agrees: bool | None
    contribution: float | None


@dataclass(frozen=True)
class ExplainedRow:
    """One row of a decision. `contributions` of features and `expected` add up to the model's raw score."""

    row: int
    request: dict[str, Any]
    logged: Any
    from_log: float | None
    is_equal: bool | None
    from_lake: float | None
    is_equal_in_lake: bool | None
    features: list[ExplainedFeature]
    expected: float | None
    contribution_sum: float | None


@dataclass(frozen=True)
class Explanation:
    """A decision, and its rows explained. The problems say why a score could not be computed again."""

    found: FoundDecision
    rows: list[ExplainedRow]
    log_problem: str | None
    lake_problem: str | None

    @property
    def is_equal(self) -> bool:
        """Whether no score that was computed again from the log differs."""
        return all(row.is_equal is not False for row in self.rows)


def explain_decision(text: str, platform: Platform) -> Explanation:
    """Explain the decision, or the row of it, that `text` names, as ID or ID.ROW.

    Raises UnknownDecisionError, DecisionModelError, and ChainError where the record is not what was written.
    """
    identity, row = parse_identity(text)
    found = find_decision(identity, platform)
    decision = found.record.decision
    count = len(decision.requests)
    if row is not None and row >= count:
        raise UnknownDecisionError(f"Decision {identity} has {count} rows: {identity}.0 to {identity}.{count - 1}.")
    rows = range(count) if row is None else [row]
    if decision.digest is None:
        return _explain_baseline(found, rows, platform)
    model = _model(decision, platform)
    logged, log_problem = _logged_matrix(found.record, model.contract)
    in_lake, lake_problem = _lake_frame(found.record, model.contract, platform)
    explained = _explain(found.record, model, rows, logged, in_lake)
    return Explanation(found, explained, log_problem, lake_problem)


def _explain_baseline(found: FoundDecision, rows: Sequence[int], platform: Platform) -> Explanation:
    decision = found.record.decision
    product = platform.project.products.get(decision.product)
    declared = product.baseline.score if product else None
    explained = [
        ExplainedRow(
            row=row,
            request=decision.requests[row],
            logged=decision.scores[row],
            from_log=declared,
            is_equal=None if declared is None else _same(main_score(decision.scores[row]), declared),
            from_lake=None,
            is_equal_in_lake=None,
            features=[],
            expected=None,
            contribution_sum=None,
        )
        for row in rows
    ]
    problem = "The baseline answered: the score beside it is the one that is declared now."
    return Explanation(found, explained, problem, "The baseline sees no features.")


def _model(decision: Decision, platform: Platform) -> ScoringModel:
    version = decision.model.get("version")
    folder = Path(platform.environment.model_store) / decision.product / str(version)
    try:
        return load_model(folder, decision.digest)
    except ModelFileError as error:
        raise DecisionModelError(
            f"Decision {decision.id} was made by version {version} of {decision.product}, digest {decision.digest}, "
            f"which cannot be used: {str(error).splitlines()[0]}\n"
            "Hint: the record itself is whole; restore that version's files in the model store."
        ) from error


def _logged_matrix(record: Record, contract: ModelContract) -> tuple[Matrix, str | None]:
    """What the model saw, rows by the contract's features, and why it is not whole. What is hidden is NaN in it."""
    decision = record.decision
    matrix = np.full((len(decision.requests), len(contract.features)), np.nan)
    places = {name: place for place, name in enumerate(decision.features)}
    given = np.asarray(decision.vectors, dtype=np.float64)
    for place, name in enumerate(contract.features):
        if name in places:
            matrix[:, place] = given[:, places[name]]
    lacking = [name for name in contract.features if name not in places]
    if lacking:
        why = "hides" if set(lacking) <= set(record.hidden_features) else "does not hold"
        return matrix, (
            f"The log {why} {', '.join(lacking)}, which the model used: the score cannot be recomputed from the log."
        )
    return matrix, None


def _lake_frame(record: Record, contract: ModelContract, platform: Platform) -> tuple[pl.DataFrame | None, str | None]:
    """The features as of the decision by the offline path, or why they cannot be had."""
    product = platform.project.products.get(record.decision.product)
    if product is None:
        return None, f"configs/ no longer declares {record.decision.product}: its features cannot be computed."
    if record.hidden_fields:
        return None, (
            f"The log hides {', '.join(record.hidden_fields)}, fields of the request: "
            "the features cannot be looked up in the lake."
        )
    try:
        job = historical_features(
            open_store(platform.environment), _request_frame(record.decision, product), service_name(product)
        )
        frame = job.to_polars()
        feature_matrix(frame, contract)
    except MlwayError as error:
        return None, f"The features cannot be computed from the lake: {str(error).splitlines()[0]}"
    return frame, None


def _request_frame(decision: Decision, product: ModelProduct) -> pl.DataFrame:
    types = {name: POLARS_TYPES[kind] for name, kind in product.population.request.items()}
    at = _EPOCH + timedelta(microseconds=decision.at)
    columns = [
        pl.Series(name, [request.get(name) for request in decision.requests], kind) for name, kind in types.items()
    ]
    moment = pl.Series(EVENT_TIMESTAMP, [at] * len(decision.requests), pl.Datetime("us", "UTC"))
    return pl.DataFrame([*columns, moment])


def _explain(
    record: Record, model: ScoringModel, rows: Sequence[int], logged: Matrix, in_lake: pl.DataFrame | None
) -> list[ExplainedRow]:
    chosen = list(rows)
    is_whole = len(record.decision.features) == len(model.contract.features)
    from_log = model.score(_as_frame(logged[chosen], model.contract), threads=1) if is_whole else None
    lake = None if in_lake is None else feature_matrix(in_lake[chosen], model.contract)
    from_lake = None if in_lake is None else model.score(in_lake[chosen], threads=1)
    seen = logged[chosen] if is_whole else lake
    contributions = None if seen is None else _contributions(model, seen)
    explained = []
    for place, row in enumerate(chosen):
        score = main_score(record.decision.scores[row])
        again, offline = _at(from_log, place), _at(from_lake, place)
        parts = None if contributions is None else contributions[place]
        explained.append(
            ExplainedRow(
                row=row,
                request=record.decision.requests[row],
                logged=record.decision.scores[row],
                from_log=again,
                is_equal=None if again is None else _same(score, again),
                from_lake=offline,
                is_equal_in_lake=None if offline is None else _same(score, offline),
                features=_features(record, model.contract, logged[row], None if lake is None else lake[place], parts),
                expected=None if parts is None else float(parts[-1]),
                contribution_sum=None if parts is None else float(parts.sum()),
            )
        )
    return explained


def _features(
    record: Record, contract: ModelContract, logged: Matrix, lake: Matrix | None, parts: Matrix | None
) -> list[ExplainedFeature]:
    known = set(record.decision.features)
    found = []
    for place, name in enumerate(contract.features):
        there = float(logged[place]) if name in known else None
        offline = _at(lake, place)
        agrees = None if there is None or offline is None else _same(there, offline)
        found.append(ExplainedFeature(name, there, offline, agrees, _at(parts, place)))
    return found


def _as_frame(matrix: Matrix, contract: ModelContract) -> pl.DataFrame:
    """The feature frame of which `matrix` is the scoring core's view: codes of texts become texts again."""
    columns = []
    for place, (name, kind) in enumerate(contract.features.items()):
        values = np.ascontiguousarray(matrix[:, place])
        if kind == "string":
            levels = contract.levels[name]
            texts = [None if np.isnan(value) else levels[int(value)] for value in values]
            columns.append(pl.Series(name, texts, pl.String))
        else:
            columns.append(pl.Series(name, values))
    return pl.DataFrame(columns)


def _contributions(model: ScoringModel, matrix: Matrix) -> Matrix:
    """Each feature's share of the raw score by row, and behind them the score that is expected before any is known."""
    return np.asarray(model.booster.predict(matrix, pred_contrib=True, num_threads=1), dtype=np.float64)


def _at(values: Matrix | None, place: int) -> float | None:
    return None if values is None else float(values[place])


def _same(one: float | None, other: float) -> bool:
    """Whether two numbers have the same bits; missing is missing, whatever its bits."""
    if one is None:
        return False
    return bool(np.isnan(one) and np.isnan(other)) or np.float64(one).tobytes() == np.float64(other).tobytes()

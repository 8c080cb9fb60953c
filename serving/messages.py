"""Request and response bodies of an endpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, create_model

from configs.products import ModelProduct
from serving.predictor import Answer
from serving.problems import Problem, errors_of, unprocessable

_FIELD_TYPES: dict[str, Any] = {
    "string": Annotated[str, Field(max_length=200)],
    "int64": Annotated[int, Field(ge=-(2**63), lt=2**63)],
    "float64": Annotated[float, Field(allow_inf_nan=False)],
    "boolean": bool,
    "timestamp": AwareDatetime,
}
_EARLIEST, _LATEST = 1677, 2262
"""Years that every later step can hold, whatever its unit."""
MOST_CANDIDATES = 500
"""Of one ranking."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a request asks."""

    rows: dict[str, list[Any]]
    """Each of the request's fields to its values, a row for each instance."""
    explain: bool = False
    top: int | None = None
    """Of a ranking, how many of the best."""


class RequestReader:
    """Reads the bodies of one product's requests."""

    def __init__(self, product: ModelProduct) -> None:
        self._fields = tuple(product.population.request)
        self._moments = [name for name, kind in product.population.request.items() if kind == "timestamp"]
        self._event_time = product.population.event_time
        self._body = _body_model(product)

    def read(self, body: bytes) -> Question:
        """The question of `{"instances": [...], "explain": false}`.

        Raises Problem 422 naming every field that is wrong.
        """
        try:
            asked = self._body.model_validate_json(body)
        except ValidationError as error:
            raise unprocessable(errors_of(error)) from error
        columns = {name: [getattr(instance, name) for instance in asked.instances] for name in self._fields}
        late = [
            (f"/instances/{number}/{self._event_time}", f"The year must lie between {_EARLIEST} and {_LATEST}.")
            for number, moment in enumerate(columns[self._event_time])
            if not _EARLIEST < moment.year < _LATEST
        ]
        if late:
            raise unprocessable(late)
        for name in self._moments:
            columns[name] = [None if moment is None else _in_utc(moment) for moment in columns[name]]
        return Question(columns, asked.explain)

    def read_ranking(self, body: bytes) -> Question:
        """The question of `{"context": {...}, "candidates": [{...}, ...], "top_k": 5, "explain": false}`.

        A candidate has the fields that the context leaves out. Raises Problem 422.
        """
        try:
            asked = _Ranking.model_validate_json(body)
        except ValidationError as error:
            raise unprocessable(errors_of(error)) from error
        twice = [
            (f"/candidates/{number}/{_plain(name)}", "The context has this field too.")
            for number, candidate in enumerate(asked.candidates)
            for name in candidate.keys() & asked.context.keys()
        ]
        if twice:
            raise unprocessable(twice)
        try:
            instances = [{**asked.context, **candidate} for candidate in asked.candidates]
            question = self.read(orjson.dumps({"instances": instances, "explain": asked.explain}))
        except TypeError as error:  # a whole number of more than 64 bits
            raise unprocessable([("/candidates", str(error))]) from error
        except Problem as problem:
            named = [(_in_ranking(each["pointer"], asked.context), each["detail"]) for each in problem.errors]
            raise unprocessable(list(dict.fromkeys(named))) from problem
        return Question(question.rows, asked.explain, asked.top_k or len(instances))


def predictions_body(
    answer: Answer, rows: range, decision: str, contributions: Mapping[int, Sequence[float]] | None = None
) -> bytes:
    """The answer to some rows: the decision's id, which model gave it, and a prediction for each.

    Rows with `contributions`, which are the features' and last the bias, are explained.
    """
    predictions = [_prediction(answer, row, contributions or {}) for row in rows]
    return orjson.dumps(_head(answer, decision) | {"predictions": predictions})


def ranking_body(
    answer: Answer,
    rows: range,
    decision: str,
    top: int,
    contributions: Mapping[int, Sequence[float]] | None = None,
) -> bytes:
    """The answer to a ranking: the best candidates by their places in the request, best first, equals in its order."""
    order = sorted(rows, key=lambda row: -answer.scores[row].score)[:top]
    ranked = [{"candidate": row - rows.start} | _prediction(answer, row, contributions or {}) for row in order]
    return orjson.dumps(_head(answer, decision) | {"ranking": ranked})


def _head(answer: Answer, decision: str) -> dict[str, Any]:
    head: dict[str, Any] = {"decision": decision, "model": answer.model}
    return head | ({"degraded": answer.degraded} if answer.degraded else {})


def _prediction(answer: Answer, row: int, contributions: Mapping[int, Sequence[float]]) -> dict[str, Any]:
    score = answer.scores[row]
    prediction: dict[str, Any] = {"score": score.score}
    if score.lower is not None:
        prediction |= {"lower": score.lower, "upper": score.upper}
    if missing := answer.missing[row]:
        prediction["missing"] = missing
    if row in contributions:
        prediction["explanation"] = _explanation(answer, row, contributions[row])
    return prediction


def _explanation(answer: Answer, row: int, contributions: Sequence[float]) -> dict[str, Any]:
    """Contributions sum to the raw score: the log odds of a probability, else the score itself."""
    values = answer.values or {}
    return {
        "raw_score": sum(contributions),
        "bias": contributions[-1],
        "contributions": dict(zip(answer.features, contributions, strict=False)),
        "features": {name: values[name][row] for name in answer.features},
        "ages_seconds": {view: ages[row] for view, ages in answer.ages.items()},
    }


class _Body(BaseModel):
    """A request's body; each product narrows what an instance is."""

    model_config = ConfigDict(strict=True, extra="forbid")

    instances: list[Any]
    explain: bool = False


class _Ranking(BaseModel):
    """A ranking's body; what is in its parts is checked once they are together."""

    model_config = ConfigDict(strict=True, extra="forbid")

    context: dict[str, Any] = {}
    candidates: list[dict[str, Any]] = Field(min_length=1, max_length=MOST_CANDIDATES)
    top_k: Annotated[int, Field(ge=1)] | None = None
    explain: bool = False


def _body_model(product: ModelProduct) -> type[_Body]:
    event_time = product.population.event_time
    fields: dict[str, Any] = {
        name: (_FIELD_TYPES[kind] if name == event_time else _FIELD_TYPES[kind] | None, ...)
        for name, kind in product.population.request.items()
    }
    instance: Any = create_model("Instance", __config__=_Body.model_config, **fields)
    instances = Annotated[list[instance], Field(min_length=1, max_length=product.endpoint.max_instances)]
    return create_model("Instances", __base__=_Body, instances=(instances, ...))


def _in_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


def _in_ranking(pointer: str, context: Mapping[str, Any]) -> str:
    """Where in a ranking's body stood what is at `pointer` in its instances."""
    _, _, number, *rest = [*pointer.split("/"), "", ""][:5]
    field = next((part for part in rest if part), "")
    if field in context:
        return f"/context/{field}"
    return f"/candidates/{number}/{field}".rstrip("/")


def _plain(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")[:200]

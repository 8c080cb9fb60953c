"""Request and response bodies of an endpoint, and its errors as RFC 9457 problem details."""

from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, create_model

from configs.products import ModelProduct

_FIELD_TYPES: dict[str, Any] = {
    "string": Annotated[str, Field(max_length=200)],
    "int64": Annotated[int, Field(ge=-(2**63), lt=2**63)],
    "float64": Annotated[float, Field(allow_inf_nan=False)],
    "boolean": bool,
    "timestamp": AwareDatetime,
}
_EARLIEST, _LATEST = 1677, 2262
"""Years that every later step can hold, whatever its unit."""


class Problem(Exception):
    """An answer that is not a prediction."""

    def __init__(self, status: int, title: str, detail: str, errors: list[dict[str, str]] | None = None) -> None:
        super().__init__(detail)
        self.status, self.title, self.detail, self.errors = status, title, detail, errors

    def body(self) -> bytes:
        """application/problem+json."""
        content: dict[str, Any] = {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        return orjson.dumps(content | ({"errors": self.errors} if self.errors else {}))


class RequestReader:
    """Reads the bodies of one product's requests."""

    def __init__(self, product: ModelProduct) -> None:
        self._fields = tuple(product.population.request)
        self._moments = [name for name, kind in product.population.request.items() if kind == "timestamp"]
        self._event_time = product.population.event_time
        self._body = _body_model(product)

    def read(self, body: bytes) -> dict[str, list[Any]]:
        """The instances as columns: each of the request's fields to its values.

        Raises Problem 422 naming every field that is wrong.
        """
        try:
            instances = self._body.model_validate_json(body).instances
        except ValidationError as error:
            raise _unprocessable(error) from error
        columns = {name: [getattr(instance, name) for instance in instances] for name in self._fields}
        for number, moment in enumerate(columns[self._event_time]):
            self._check_year(number, moment)
        for name in self._moments:
            columns[name] = [None if moment is None else moment.astimezone(UTC) for moment in columns[name]]
        return columns

    def _check_year(self, number: int, moment: datetime) -> None:
        if not _EARLIEST < moment.year < _LATEST:
            pointer = f"/instances/{number}/{self._event_time}"
            detail = f"The year must lie between {_EARLIEST} and {_LATEST}."
            raise Problem(
                422, "Unprocessable Content", f"{pointer}: {detail}", [{"pointer": pointer, "detail": detail}]
            )


def predictions_body(model: dict[str, Any], scores: list[float], missing: list[list[str]]) -> bytes:
    """The answer: which model gave it, and a score for each instance, with the feature views that were missing."""
    predictions = [
        {"score": score, "missing": names} if names else {"score": score}
        for score, names in zip(scores, missing, strict=True)
    ]
    return orjson.dumps({"model": model, "predictions": predictions})


class _Body(BaseModel):
    """A request's body; each product narrows what an instance is."""

    model_config = ConfigDict(strict=True, extra="forbid")

    instances: list[Any]


def _body_model(product: ModelProduct) -> type[_Body]:
    event_time = product.population.event_time
    fields: dict[str, Any] = {
        name: (_FIELD_TYPES[kind] if name == event_time else _FIELD_TYPES[kind] | None, ...)
        for name, kind in product.population.request.items()
    }
    instance: Any = create_model("Instance", __config__=_Body.model_config, **fields)
    instances = Annotated[list[instance], Field(min_length=1, max_length=product.endpoint.max_instances)]
    return create_model("Instances", __base__=_Body, instances=(instances, ...))


def _unprocessable(error: ValidationError) -> Problem:
    errors = [
        {"pointer": "/" + "/".join(str(part) for part in item["loc"]), "detail": item["msg"]}
        for item in error.errors(include_url=False, include_input=False, include_context=False)[:20]
    ]
    first = errors[0]
    return Problem(422, "Unprocessable Content", f"{first['pointer']}: {first['detail']}", errors)

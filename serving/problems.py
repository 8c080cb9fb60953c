"""Answers that are no prediction: RFC 9457 problem details."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic import ValidationError

_MOST_ERRORS = 20


class Problem(Exception):
    """An answer that is not a prediction."""

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.title, self.detail = status, title, detail
        self.errors, self.headers = list(errors), dict(headers or {})

    def body(self) -> bytes:
        """application/problem+json."""
        content: dict[str, Any] = {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        return orjson.dumps(content | ({"errors": self.errors} if self.errors else {}))


def unprocessable(errors: Sequence[tuple[str, str]]) -> Problem:
    """Problem 422 that names each wrong field by its JSON pointer, and what is wrong with it."""
    listed = [{"pointer": pointer, "detail": detail} for pointer, detail in errors[:_MOST_ERRORS]]
    return Problem(422, "Unprocessable Content", f"{listed[0]['pointer']}: {listed[0]['detail']}", listed)


def errors_of(error: ValidationError) -> list[tuple[str, str]]:
    """The JSON pointers that pydantic found fault with, and the faults; never the values."""
    items = error.errors(include_url=False, include_input=False, include_context=False)
    return [("/" + "/".join(map(_escaped, item["loc"])), item["msg"]) for item in items[:_MOST_ERRORS]]


def _escaped(part: str | int) -> str:
    """A part of a JSON pointer (RFC 6901)."""
    return str(part).replace("~", "~0").replace("/", "~1")[:200]

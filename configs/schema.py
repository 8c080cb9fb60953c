"""What every configuration file shares: frozen models that refuse unknown fields, and scalar types."""

import re
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

ColumnType = Literal["string", "int64", "float64", "boolean", "date", "timestamp"]
"""Column types a file may declare. A timestamp is UTC with microseconds."""

_DURATION = re.compile(r"^(\d+)(s|m|h|d)$")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Frozen(BaseModel):
    """Base of every configuration model."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def parse_duration(value: Any) -> Any:
    """`30s`, `15m`, `2h` or `28d` as a timedelta; anything else is left to pydantic to refuse."""
    if isinstance(value, str):
        match = _DURATION.match(value)
        if not match:
            raise ValueError("a duration is a whole number and a unit: 30s, 15m, 2h or 28d")
        return timedelta(seconds=int(match[1]) * _UNIT_SECONDS[match[2]])
    return value


def format_duration(value: timedelta) -> str:
    """The shortest text that `parse_duration` reads back as `value`."""
    seconds = int(value.total_seconds())
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNIT_SECONDS[unit] == 0:
            return f"{seconds // _UNIT_SECONDS[unit]}{unit}"
    return f"{seconds}s"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _DURATION.pattern, "examples": ["2h", "28d"]}),
]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", description="Lower case, digits and underscores.")]
SecretName = Annotated[
    str, Field(pattern=r"^[A-Z][A-Z0-9_]*$", description="Name of the environment variable that holds the secret.")
]
Owner = Annotated[
    str,
    Field(
        pattern=r"^(team:[\w.-]+|[^@\s]+@[^@\s]+\.[^@\s]+)$",
        description="An e-mail address, or team:name. Shown in the graph.",
    ),
]
Description = Annotated[str, Field(min_length=1)]

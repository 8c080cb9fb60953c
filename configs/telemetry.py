"""What replicas tell of the requests that they answer, beside the decision log: traces and request logs."""

from typing import Literal, Self

from pydantic import Field, model_validator

from configs.schema import Frozen


class RequestLogLimits(Frozen):
    """One JSON line for each request, in a file of each product."""

    answered_share: float = Field(
        default=1.0, ge=0, le=1, description="Share of the answered requests that get a line; refused ones always do."
    )
    megabytes: float = Field(
        default=64, gt=0, description="A file that has grown to this becomes the former one, of which one is kept."
    )


class Telemetry(Frozen):
    """Spans go to an OpenTelemetry collector. Metrics need nothing here: Ray's agent exposes them."""

    traces: Literal["none", "otlp"] = Field(default="none", description="otlp: to a collector, protobuf over HTTP.")
    endpoint: str | None = Field(
        default=None, pattern="^https?://", description="The collector's address, such as http://host:4318/v1/traces."
    )
    sample_share: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of requests that are traced; a caller's traceparent decides itself.",
    )
    request_log: RequestLogLimits = RequestLogLimits()

    @model_validator(mode="after")
    def _has_an_endpoint(self) -> Self:
        if self.traces == "otlp" and self.endpoint is None:
            raise ValueError("`traces: otlp` needs `endpoint`, the collector's address")
        return self

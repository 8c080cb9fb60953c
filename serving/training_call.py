"""POST {route}/train: ask for a training by HTTP. The graph's sensor opens one for all who ask."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Annotated

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serving.access import Caller
from serving.inference_service import Reply
from serving.problems import Problem, errors_of, unprocessable
from serving.training_requests import MOST_REASON, TooManyRequestsError, TrainingRequests

RETRY_SECONDS = 30
"""So often the sensor looks."""


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    reason: Annotated[str, Field(min_length=1, max_length=MOST_REASON)]


class TrainingCall:
    """Takes down who wants a product trained, and why."""

    def __init__(self, product: str, requests: TrainingRequests, now: Callable[[], datetime]) -> None:
        """`now` is the machine's time, by which requests are told apart."""
        self._product, self._requests, self._now = product, requests, now

    async def take(self, caller: Caller, body: bytes) -> Reply:
        """202 with the request's id, for `{"reason": "..."}`. Raises Problem 422, and 503 when nobody takes them up."""
        try:
            asked = _Body.model_validate_json(body)
        except ValidationError as error:
            raise unprocessable(errors_of(error)) from error
        who = f"{caller.kind}:{caller.id}"
        try:
            request = await asyncio.to_thread(self._requests.add, self._product, asked.reason, who, self._now())
        except TooManyRequestsError as error:
            headers = {"Retry-After": str(RETRY_SECONDS)}
            raise Problem(503, "Service Unavailable", str(error).splitlines()[0], headers=headers) from error
        content = {"request": request.id, "product": request.product, "reason": request.reason}
        return Reply(202, {"content-type": "application/json"}, orjson.dumps(content))

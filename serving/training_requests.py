"""Requests for a training, from whoever may ask for one: a file each, until the graph has answered it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import orjson

from configs.errors import MlwayError

MOST_PENDING = 1000
MOST_REASON = 200
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class TooManyRequestsError(MlwayError):
    """Nobody answers them."""

    def __init__(self, product: str) -> None:
        super().__init__(
            f"{MOST_PENDING} requests to train {product} wait already.\n"
            f"Hint: the sensor retrain_{product} answers them: is Dagster's daemon running?"
        )


@dataclass(frozen=True)
class TrainingRequest:
    """Who wants a product trained, and why."""

    id: str
    product: str
    reason: str
    caller: str
    asked_at: datetime


@dataclass(frozen=True)
class TrainingRequests:
    """The requests that wait, in a folder that endpoints and graph share."""

    folder: Path

    def add(self, product: str, reason: str, caller: str, now: datetime) -> TrainingRequest:
        """Write one down; control characters become spaces, a long reason is cut. Raises TooManyRequestsError."""
        folder = self.folder / product
        folder.mkdir(parents=True, exist_ok=True)
        if sum(1 for _ in folder.glob("*.json")) >= MOST_PENDING:
            raise TooManyRequestsError(product)
        reason = _UNPRINTABLE.sub(" ", reason)[:MOST_REASON]
        request = TrainingRequest(uuid4().hex, product, reason, caller, now)
        new = folder / f".{request.id}"
        new.write_bytes(orjson.dumps(request))
        new.rename(folder / f"{request.id}.json")
        return request

    def pending(self, product: str) -> list[TrainingRequest]:
        """Those that wait, oldest first."""
        found = [orjson.loads(file.read_bytes()) for file in (self.folder / product).glob("*.json")]
        requests = [TrainingRequest(**each | {"asked_at": datetime.fromisoformat(each["asked_at"])}) for each in found]
        return sorted(requests, key=lambda request: (request.asked_at, request.id))

    def remove(self, requests: Sequence[TrainingRequest]) -> None:
        """Forget those that were answered."""
        for request in requests:
            (self.folder / request.product / f"{request.id}.json").unlink(missing_ok=True)

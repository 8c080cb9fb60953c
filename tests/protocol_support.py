"""A product behind the protocols: the real reader of requests and a real model, reached as a replica would be."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import orjson

from configs.clock import build_clock
from configs.environments import SystemClock
from configs.features import RequestFeatures
from configs.load import Project, load_project
from configs.products import ModelProduct
from serving.inference_service import Reply
from serving.messages import RequestReader, predictions_body
from serving.online_features import FeatureColumns
from serving.predictor import OnlineReads, Predictor
from serving.problems import Problem
from serving.scoring import ModelContract, write_model

PRODUCT = "flight_delay"
ROW: dict[str, Any] = {
    "carrier": "B6",
    "flight": 1016,
    "origin": "JFK",
    "dest": "BOS",
    "tailnum": "N258JB",
    "scheduled_departure": "2013-10-01T14:00:00Z",
    "fare": 129.9,
    "is_codeshare": False,
}
"""Every type that a request's field may have."""
_REQUEST = RequestFeatures.model_validate(
    {"name": "asked", "kind": "request", "description": "Of the request.", "owner": "team:tests"}
    | {"fields": {"flight": "int64", "fare": "float64"}}
    | {"features": {"fare_and_flight": {"expression": "fare + flight", "type": "float64", "description": "A sum."}}}
)


def protocol_product() -> ModelProduct:
    """`flight_delay` with two fields more, and features of the request alone."""
    content = load_project().products[PRODUCT].model_dump()
    content |= {"features": ["asked"], "exclude": []}
    content["population"]["request"] |= {"fare": "float64", "is_codeshare": "boolean"}
    return ModelProduct.model_validate(content)


def protocol_project() -> Project:
    """A project of this product."""
    product = protocol_product()
    return replace(Project({}, {}, {}), features={"asked": _REQUEST}, products={product.name: product})


def row_columns(*changes: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Columns with a row for each change of `ROW`."""
    rows = [ROW | dict(change) for change in changes or ({},)]
    return {name: [row[name] for row in rows] for name in ROW}


class _NoTables:
    def read(self, entities: Mapping[str, Sequence[Any]], as_of: datetime) -> FeatureColumns:
        raise AssertionError("nothing is to be read")


class LocalEndpoint:
    """The product's endpoint in this process, with version 1 of a small model. It keeps the headers that it gets."""

    def __init__(self, folder: Path) -> None:
        project = protocol_project()
        product = project.products[PRODUCT]
        values = np.random.default_rng(7).uniform(0, 3000, (400, 1))
        booster = lightgbm.train(
            {"objective": "binary", "verbosity": -1, "num_threads": 1},
            lightgbm.Dataset(values, np.sin(values[:, 0] / 200) > 0),
            20,
        )
        contract = ModelContract(product=PRODUCT, features={"fare_and_flight": "float64"}, levels={})
        write_model(booster.model_to_string(), contract, folder / PRODUCT / "1")
        self.reader = RequestReader(product)
        reads, clock = OnlineReads((), _NoTables(), "none", required=True), build_clock(SystemClock(kind="system"))
        self.predictor = Predictor(project, product, str(folder), reads, clock)
        self.predictor.use(1, None)
        self.headers: Mapping[str, str] = {}
        self.refusal: Reply | None = None
        self.predictions = 0

    async def __call__(self, product: str, action: str, headers: Mapping[str, str], body: bytes) -> Reply:
        self.headers = headers
        if self.refusal is not None:
            return self.refusal
        if action != "predict":
            return Reply(200, {}, orjson.dumps({"model": self.predictor.description}))
        try:
            rows = self.reader.read(body).rows
        except Problem as problem:
            return Reply(problem.status, {}, problem.body())
        self.predictions += 1
        answer = self.predictor.predict(rows)
        return Reply(200, {}, predictions_body(answer, range(len(answer.scores)), "a-decision"))

    def scores(self, columns: Mapping[str, Sequence[Any]]) -> list[float]:
        """What the predictor itself gives."""
        return [score.score for score in self.predictor.predict(columns).scores]


def refusal(status: int, title: str, detail: str, headers: Mapping[str, str]) -> Reply:
    """A product's refusal."""
    return Reply(status, headers, Problem(status, title, detail).body())

"""What a user would write by hand: FastAPI, Feast's SDK and a Booster. No key, no log, no versions.

Usage: MLWAY_STATE=... MLWAY_ENVIRONMENT=... uvicorn benchmarks.peers.feast_fastapi:app --loop uvloop --http httptools
It is written for speed within its means: one SDK call a request for the table features alone, request features in
plain Python, one predict call for all instances, orjson answers, and nothing that blocks but the work itself.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from math import nan
from typing import Any
from zoneinfo import ZoneInfo

import lightgbm
import numpy as np
import orjson
from fastapi import FastAPI, Response
from pydantic import AwareDatetime, BaseModel

from configs.load import load_environment, load_project
from feature_repo.store import open_store
from mlway_assets.resources import open_platform
from serving.scoring import MODEL_FILE, load_model

PRODUCT = "flight_delay"
NEW_YORK = ZoneInfo("America/New_York")


class Flight(BaseModel):
    """One instance."""

    carrier: str
    flight: int
    origin: str
    dest: str
    tailnum: str
    scheduled_departure: AwareDatetime


class Flights(BaseModel):
    """A request's body."""

    instances: list[Flight]


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def request_features(flight: Flight, read: Mapping[str, Any]) -> dict[str, Any]:
    """configs/features/departure_request.yaml by hand."""
    local = flight.scheduled_departure.astimezone(NEW_YORK)
    minute = int(flight.scheduled_departure.timestamp() / 60)
    departed, arrived = read["aircraft_last_departure_minute_1d"], read["aircraft_previous_arrival_minute_1d"]
    distance, since = read["aircraft_last_departure_distance_1d"], _difference(minute, departed)
    slack = None if since is None or distance is None else since - 2 * (distance / 7.0 + 40)
    return {
        "carrier_code": flight.carrier,
        "origin_code": flight.origin,
        "dest_code": flight.dest,
        "departure_minute_of_day": local.hour * 60 + local.minute,
        "departure_day_of_week": local.isoweekday(),
        "aircraft_age_years": _difference(local.year, read["aircraft_year_built"]),
        "minutes_since_previous_arrival": _difference(minute, arrived),
        "minutes_since_last_departure": since,
        "aircraft_is_in_the_air": None if departed is None else departed > (arrived or 0),
        "turnaround_slack_minutes": slack,
    }


def _build() -> Callable[[Sequence[Flight]], list[float]]:
    environment, project = load_environment(os.environ.get("MLWAY_ENVIRONMENT")), load_project()
    product = project.products[PRODUCT]
    champion = open_platform().registry.require_champion(PRODUCT)
    contract = load_model(champion.folder).contract
    booster = lightgbm.Booster(model_file=str(champion.folder / MODEL_FILE))
    codes = {name: {level: code for code, level in enumerate(levels)} for name, levels in contract.levels.items()}
    groups = project.table_groups(product)
    store = open_store(environment)
    features = [f"{group.name}:{name}" for group in groups for name in group.types]
    keys = sorted({key for group in groups for key in group.join_keys})

    def predict(flights: Sequence[Flight]) -> list[float]:
        entities = {key: [getattr(flight, key) for flight in flights] for key in keys}
        read = store.get_online_features(features=features, entity_rows=entities).to_dict()
        matrix = np.empty((len(flights), len(contract.features)))
        for row, flight in enumerate(flights):
            values = {name: column[row] for name, column in read.items()}
            values |= request_features(flight, values)
            for place, (name, kind) in enumerate(contract.features.items()):
                value = codes[name].get(values[name]) if kind == "string" else values[name]
                matrix[row, place] = nan if value is None else value
        scores: list[float] = np.asarray(booster.predict(matrix, num_threads=1)).tolist()
        return scores

    return predict


app = FastAPI()
predict_flights = _build()


@app.post("/predict")
async def predict(body: Flights) -> Response:
    """A probability for each flight."""
    scores = predict_flights(body.instances)
    return Response(
        orjson.dumps({"predictions": [{"score": score} for score in scores]}), media_type="application/json"
    )

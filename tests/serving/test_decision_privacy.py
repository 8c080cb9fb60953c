"""Personal data in the decision log: what is hidden, and how."""

import hashlib
import hmac
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from decision_support import FEATURES, PRODUCT, decision, product, read_log

from configs.environments import Decisions
from configs.features import FeatureGroup
from configs.load import Project, load_project
from configs.products import ModelProduct
from serving.decision_log import Decision, DecisionLog, open_decision_log
from serving.decision_privacy import Privacy, build_privacy, personal_data
from serving.decision_segments import list_segments

PROJECT = load_project()


def tagged(group: str, feature: str | None = None) -> Project:
    """The project with a group, or one feature of it, tagged `pii`."""
    found: Any = PROJECT.features[group]
    changed: FeatureGroup
    if feature is None:
        changed = found.model_copy(update={"tags": ("pii",)})
    else:
        field = "aggregations" if hasattr(found, "aggregations") else "features"
        declared = getattr(found, field)
        one = declared[feature].model_copy(update={"tags": ("pii",)})
        changed = found.model_copy(update={field: {**declared, feature: one}})
    return Project(PROJECT.sources, {**PROJECT.features, group: changed}, PROJECT.products)


def with_personal(*fields: str) -> ModelProduct:
    population = product().population.model_copy(update={"request_pii": fields})
    return product().model_copy(update={"population": population})


def test_nothing_is_hidden_where_nothing_is_tagged() -> None:
    assert personal_data(PROJECT, product()) == (frozenset(), frozenset())


def test_a_tagged_group_hides_its_features_its_keys_and_what_is_computed_from_them() -> None:
    fields, features = personal_data(tagged("aircraft"), product())
    assert fields == {"tailnum"}
    assert features == {"aircraft_year_built", "aircraft_seats", "aircraft_age_years"}


def test_a_tagged_feature_hides_the_keys_that_say_of_whom_it_tells() -> None:
    fields, features = personal_data(tagged("route_history", "route_late_share"), product())
    assert fields == {"origin", "dest"}
    assert features == {"route_late_share_28d", "origin_code", "dest_code"}


def test_a_tagged_request_feature_hides_what_it_is_computed_from() -> None:
    fields, features = personal_data(tagged("departure_request", "departure_minute_of_day"), product())
    assert (fields, features) == ({"scheduled_departure"}, {"departure_minute_of_day"})
    fields, features = personal_data(tagged("departure_request", "minutes_since_last_departure"), product())
    assert fields == {"scheduled_departure"}
    assert features == {"minutes_since_last_departure", "aircraft_last_departure_minute_1d"}


def test_a_personal_field_hides_the_features_that_are_computed_from_it() -> None:
    assert personal_data(PROJECT, with_personal("carrier")) == ({"carrier"}, {"carrier_code"})


def log_one(folder: Path, made: Decision, privacy: Privacy) -> tuple[str, Any]:
    log = DecisionLog(folder, product(), "r1", privacy=privacy)
    log.append(made)
    log.append(made)
    log.close()
    return list_segments(folder, PRODUCT)[0].path.read_text(encoding="utf-8"), read_log(folder)[1].record


HIDDEN = Privacy(frozenset({"carrier", "flight"}), frozenset({"flights"}))


def test_what_is_hidden_is_left_out_and_the_record_says_so(tmp_path: Path) -> None:
    made = decision(rows=2)
    text, record = log_one(tmp_path, made, HIDDEN)
    assert "B6" not in text
    assert (record.hidden_fields, record.hidden_features) == (("carrier", "flight"), ("flights",))
    assert record.decision.features == ("delay", "carrier_code")
    assert np.array_equal(record.decision.vectors, np.asarray(made.vectors)[:, [0, 2]], equal_nan=True)
    assert record.hashes == []


def test_a_key_makes_equal_values_of_a_field_hash_alike_and_others_not(tmp_path: Path) -> None:
    made = decision(rows=3)
    _, record = log_one(tmp_path, made, Privacy(HIDDEN.fields, HIDDEN.features, b"key"))
    carriers = {row["fields"]["carrier"] for row in record.hashes}
    flights = {row["fields"]["flight"] for row in record.hashes}
    assert (len(carriers), len(flights)) == (1, 3)
    expected = hmac.new(b"key", b"carrier\0" + orjson.dumps("B6"), hashlib.sha256).hexdigest()
    assert carriers == {expected}
    matrix = np.asarray(made.vectors)
    of_feature = hmac.new(b"key", b"flights\0" + matrix[1, 1].tobytes(), hashlib.sha256).hexdigest()
    assert record.hashes[1]["features"] == {"flights": of_feature}


def test_without_the_key_hidden_parts_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = Decisions(pii="hash", pii_secret="DECISIONS_KEY")
    monkeypatch.delenv("DECISIONS_KEY", raising=False)
    assert build_privacy(tagged("aircraft"), product(), declared).key is None
    monkeypatch.setenv("DECISIONS_KEY", "secret")
    assert build_privacy(tagged("aircraft"), product(), declared).key == b"secret"


def test_the_environment_says_where_and_how_is_logged(tmp_path: Path) -> None:
    from configs.load import load_environment

    found = load_environment("local")
    declared = found.decisions.model_copy(update={"folder": str(tmp_path), "segment_megabytes": 0.002})
    log = open_decision_log(tagged("aircraft"), found.model_copy(update={"decisions": declared}), product(), "r1")
    for _ in range(10):
        log.append(decision())
    log.close()
    assert len(list_segments(tmp_path, PRODUCT)) > 2
    record = read_log(tmp_path)[0].record
    assert record.hidden_fields == ("tailnum",)
    assert record.decision.features == FEATURES

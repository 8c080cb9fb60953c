"""What a replica counts, read as Prometheus reads it: from the exposition text."""

import sys
import threading
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from servers import free_port

from mlway_assets.local.process_manager import wait_until
from serving import metrics as declared
from serving.metrics import METRICS, ServingMetrics
from serving.ray_metrics import RAY_PREFIX

PRODUCT = {"product": "flights"}
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
ANSWER: dict[str, Any] = {
    "stages": [{"features": 0.0004, "total": 0.002}],
    "rows": 2,
    "scores": [0.25, 0.31],
    "ages": {"aircraft": [5.0, None], "route": [30.0, 31.0]},
    "missing": [[], ["aircraft"]],
    "cache_hits": 1,
    "model_version": 7,
    "degraded": ["redis"],
}


def parsed(text: str) -> Samples:
    families = text_string_to_metric_families(text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def exposed(metrics: ServingMetrics) -> Samples:
    registry = CollectorRegistry()
    registry.register(metrics)
    return parsed(generate_latest(registry).decode())


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset({**PRODUCT, **labels}.items())))


@pytest.fixture
def metrics() -> ServingMetrics:
    return ServingMetrics("flights", in_flight_limit=100)


def test_an_answer_is_counted_by_stage_view_and_score(metrics: ServingMetrics) -> None:
    metrics.answered(**ANSWER)
    metrics.answered(**ANSWER | {"degraded": [], "cache_hits": 0})
    found = exposed(metrics)
    assert value(found, "mlway_requests_total", status="200") == 2
    assert value(found, "mlway_rows_total") == 4
    assert value(found, "mlway_cache_hits_total") == 1
    assert value(found, "mlway_missing_features_total", view="aircraft") == 2
    assert value(found, "mlway_missing_features_total", view="route") is None
    assert value(found, "mlway_degraded_total", part="redis") == 1
    assert value(found, "mlway_model_version") == 7
    assert value(found, "mlway_request_seconds_sum", stage="total") == pytest.approx(0.004)
    assert value(found, "mlway_request_seconds_bucket", stage="total", le="0.001") == 0
    assert value(found, "mlway_request_seconds_bucket", stage="total", le="0.0025") == 2
    assert value(found, "mlway_feature_age_seconds_count", view="aircraft") == 2
    assert value(found, "mlway_feature_age_seconds_sum", view="route") == 122.0
    assert value(found, "mlway_score_bucket", le="0.3") == 2
    assert value(found, "mlway_score_bucket", le="+Inf") == 4


def test_a_bucket_holds_its_upper_bound_and_what_lies_beyond_all_is_counted(metrics: ServingMetrics) -> None:
    metrics.answered(**ANSWER | {"scores": [-100.0, 0.05, 0.0500001, 1.0, 10_000.0]})
    found = exposed(metrics)
    by_bound = {bound: value(found, "mlway_score_bucket", le=bound) for bound in ("-60", "0.05", "0.1", "1", "300")}
    assert by_bound == {"-60": 1, "0.05": 2, "0.1": 3, "1": 4, "300": 4}
    assert value(found, "mlway_score_bucket", le="+Inf") == 5


@pytest.mark.parametrize("no_number", [float("nan"), float("inf"), None])
def test_what_is_no_number_does_not_spoil_the_sum(metrics: ServingMetrics, no_number: float | None) -> None:
    metrics.answered(**ANSWER | {"scores": [0.5], "ages": {"route": [no_number, 2.0]}})
    found = exposed(metrics)
    assert value(found, "mlway_feature_age_seconds_sum", view="route") == 2.0
    assert value(found, "mlway_feature_age_seconds_count", view="route") == 1


def test_refusals_are_counted_by_status_and_do_not_count_as_answers(metrics: ServingMetrics) -> None:
    for status in (429, 503, 429):
        metrics.refused(status)
    found = exposed(metrics)
    assert value(found, "mlway_requests_total", status="429") == 2
    assert value(found, "mlway_requests_total", status="503") == 1
    assert not value(found, "mlway_requests_total", status="200")
    assert value(found, "mlway_score_bucket", le="+Inf") is None


def test_the_baseline_is_version_zero_and_nothing_is_said_before_a_version_is_known(metrics: ServingMetrics) -> None:
    assert value(exposed(metrics), "mlway_model_version") is None
    metrics.serves(None)
    assert value(exposed(metrics), "mlway_model_version") == 0
    metrics.serves(3)
    assert value(exposed(metrics), "mlway_model_version") == 3
    metrics.answered(**ANSWER | {"model_version": None})
    assert value(exposed(metrics), "mlway_model_version") == 0


def test_requests_in_hand_are_those_of_now_beside_the_limit(metrics: ServingMetrics) -> None:
    for count in (1, 2, 1):
        metrics.in_flight(count)
    found = exposed(metrics)
    assert value(found, "mlway_requests_in_flight") == 1
    assert value(found, "mlway_requests_in_flight_limit") == 100
    assert value(exposed(ServingMetrics("flights")), "mlway_requests_in_flight_limit") is None


def test_no_request_is_lost_or_counted_twice_while_another_thread_reads(metrics: ServingMetrics) -> None:
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            metrics.snapshot()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(5_000):
            metrics.answered(**ANSWER) if number % 2 else metrics.refused(429)
    finally:
        done.set()
        reader.join()
        sys.setswitchinterval(interval)
    found = exposed(metrics)
    assert value(found, "mlway_requests_total", status="200") == 2_500
    assert value(found, "mlway_requests_total", status="429") == 2_500
    assert value(found, "mlway_score_bucket", le="+Inf") == 5_000


def test_what_waits_is_bounded_where_nobody_reads(metrics: ServingMetrics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declared, "MOST_PENDING", 50)
    for _ in range(1_000):
        metrics.answered(**ANSWER)
        assert len(metrics._pending) <= 50
    assert value(exposed(metrics), "mlway_requests_total", status="200") == 1_000


@pytest.mark.parametrize("name", METRICS)
def test_names_labels_and_buckets_are_as_prometheus_wants_them(name: str) -> None:
    metric = METRICS[name]
    assert name.startswith("mlway_")
    assert name.endswith("_total") == (metric.kind == "counter")
    assert (metric.kind == "histogram") == bool(metric.buckets)
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert metric.labels[0] == "product"
    assert metric.help.endswith(".")


def test_the_agent_of_ray_exposes_what_a_replica_counted(metrics: ServingMetrics) -> None:
    import ray

    port = free_port()
    answer, product = ANSWER, "flights"

    def answer_five() -> None:
        from serving.metrics import ServingMetrics
        from serving.ray_metrics import export_to_ray

        metrics = ServingMetrics(product, in_flight_limit=100)
        metrics.in_flight(3)
        exporting = export_to_ray(metrics, 0.05)
        for _ in range(5):
            metrics.answered(**answer)
        metrics.refused(429)
        exporting.stop()

    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        num_cpus=1,
        object_store_memory=80_000_000,
        _node_ip_address="127.0.0.1",
        _metrics_export_port=port,
        _system_config={"metrics_report_interval_ms": 1000},
    )
    try:
        ray.get(ray.remote(answer_five).remote())
        found: Samples = {}

        def is_exposed() -> bool:
            found.clear()
            found.update(of_ray(httpx.get(f"http://127.0.0.1:{port}/metrics").text))
            return bool(value(found, "mlway_rows_total") and value(found, "mlway_score_bucket", le="+Inf"))

        assert wait_until(is_exposed, 60)
    finally:
        ray.shutdown()
    for _ in range(5):
        metrics.answered(**answer)
    metrics.refused(429)
    metrics.in_flight(3)
    # This process may have counted other products before: Ray tells what of theirs is not told yet.
    ours = {key: number for key, number in found.items() if ("product", product) in key[1]}
    assert ours == {key: number for key, number in exposed(metrics).items() if "_created" not in key[0]}


def of_ray(text: str) -> Samples:
    """Our series as Ray exposes them, without its prefix and its own labels."""
    return {
        (
            name.removeprefix(RAY_PREFIX),
            frozenset((label, text) for label, text in labels if label in OUR_LABELS),
        ): number
        for (name, labels), number in parsed(text).items()
        if name.startswith(f"{RAY_PREFIX}mlway_")
    }


OUR_LABELS = {"le", *(label for metric in METRICS.values() for label in metric.labels)}

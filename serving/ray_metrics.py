"""Give a replica's metrics to Ray, whose agent on each node exposes them to Prometheus under `ray_` and their name.

Ray's own histograms are not used: they cost an observation each, and their sums are made up from bucket midpoints
(ray-project/ray#64852). A histogram is given as the three series that it is to Prometheus, `_bucket`, `_sum` and
`_count`, each a gauge to Ray, with exact values.
"""

import time
from collections.abc import Mapping
from typing import Any

from serving.background import Periodic
from serving.metrics import METRICS, HistogramValue, Series, ServingMetrics

RAY_PREFIX = "ray_"
_PAUSE_SECONDS = 0.0005


def export_to_ray(metrics: ServingMetrics, seconds: float = 1.0) -> Periodic:
    """Give the metrics to Ray from now on. Call it within a replica; stop what it returns when the replica ends."""
    exporter = RayExporter(metrics)
    return Periodic("mlway-metrics", exporter.export, seconds)


class RayExporter:
    """Ray's counters and gauges of one replica."""

    def __init__(self, metrics: ServingMetrics) -> None:
        self._metrics = metrics
        self._instruments = _instruments()
        self._given: dict[Series, int] = {}
        self._tags: dict[Series, dict[str, str]] = {}

    def export(self) -> None:
        """Give Ray every series. It forgets a gauge that is not set again, so all of them are."""
        now = self._metrics.snapshot()
        for series, count in now.counters.items():
            if more := count - self._given.get(series, 0):
                self._instruments[series[0]].inc(more, self._labels(series))
                self._given[series] = count
        for series, level in now.gauges.items():
            self._instruments[series[0]].set(level, self._labels(series))
        for series, value in now.histograms.items():
            self._set_histogram(series, value)
            time.sleep(_PAUSE_SECONDS)  # lets the event loop have the interpreter in between

    def _set_histogram(self, series: Series, value: HistogramValue) -> None:
        name, labels = series[0], self._labels(series)
        for bound, count in value.buckets:
            self._instruments[f"{name}_bucket"].set(count, {**labels, "le": bound})
        if METRICS[name].has_sum:
            self._instruments[f"{name}_sum"].set(value.sum, labels)
            self._instruments[f"{name}_count"].set(value.buckets[-1][1], labels)

    def _labels(self, series: Series) -> Mapping[str, str]:
        if series not in self._tags:
            self._tags[series] = dict(zip(METRICS[series[0]].labels, series[1], strict=True))
        return self._tags[series]


def _instruments() -> dict[str, Any]:
    from ray.util.metrics import Counter, Gauge

    made: dict[str, Any] = {}
    for name, metric in METRICS.items():
        if metric.kind == "counter":
            made[name] = Counter(name, metric.help, metric.labels)
        elif metric.kind == "gauge":
            made[name] = Gauge(name, metric.help, metric.labels)
        else:
            made[f"{name}_bucket"] = Gauge(f"{name}_bucket", metric.help, (*metric.labels, "le"))
            if metric.has_sum:
                made[f"{name}_sum"] = Gauge(f"{name}_sum", metric.help, metric.labels)
                made[f"{name}_count"] = Gauge(f"{name}_count", metric.help, metric.labels)
    return made

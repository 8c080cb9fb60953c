"""What a replica counts and times: declared here, added up exactly, given out about once a second.

A request only queues what was measured; adding up is another thread's work, since an observation given to Ray costs up
to 16 microseconds and a request makes dozens. How they reach Prometheus through Ray: ray_metrics.py. A label's values
come from configuration and code, never from a request.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

SECONDS = (5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
AGES = (1.0, 10.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 43_200.0, 86_400.0, 172_800.0, 604_800.0, 2_419_200.0)
SCORES = (-60.0, -10.0, -1.0, 0.0, *(n / 20 for n in range(1, 21)), 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)
"""Probabilities in twentieths; minutes and ranking scores more coarsely, and below zero too."""
BASELINE_VERSION = 0
"""What `mlway_model_version` says while a product answers with its declared baseline."""
MOST_PENDING = 20_000
"""Requests that wait to be added up, at most: beyond, the next one does it itself."""


@dataclass(frozen=True)
class Metric:
    """A declared metric. Names and units follow Prometheus: seconds, and `_total` for what only grows."""

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ("product",)
    buckets: tuple[float, ...] = ()

    @property
    def has_sum(self) -> bool:
        """Whether a histogram gives its sum and count: by OpenMetrics not where values may be negative."""
        return bool(self.buckets) and self.buckets[0] >= 0


METRICS: Mapping[str, Metric] = {
    "mlway_requests_total": Metric("counter", "Requests by HTTP status.", ("product", "status")),
    "mlway_rows_total": Metric("counter", "Rows that were scored."),
    "mlway_request_seconds": Metric("histogram", "Time of an answered request.", ("product", "stage"), SECONDS),
    "mlway_feature_age_seconds": Metric(
        "histogram", "Age of the values that a row was scored with.", ("product", "view"), AGES
    ),
    "mlway_missing_features_total": Metric(
        "counter", "Rows for which a view had no value that is alive.", ("product", "view")
    ),
    "mlway_degraded_total": Metric(
        "counter", "Requests answered without a part that was not to be reached.", ("product", "part")
    ),
    "mlway_cache_hits_total": Metric("counter", "Rows answered from the response cache."),
    "mlway_score": Metric("histogram", "Scores that were given.", ("product",), SCORES),
    "mlway_model_version": Metric("gauge", "Registered version that answers; 0 is the baseline."),
    "mlway_requests_in_flight": Metric("gauge", "Requests in hand."),
    "mlway_requests_in_flight_limit": Metric("gauge", "Requests that a replica takes at once."),
}

Series = tuple[str, tuple[str, ...]]
"""A metric's name and its labels' values, in the declared order."""


class Histogram:
    """Counts by bucket, and the exact sum."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = np.array(bounds)
        self._counts: NDArray[np.int64] = np.zeros(len(bounds) + 1, np.int64)
        self._sum = 0.0

    def add(self, values: Sequence[float | None]) -> None:
        """Add values; None, NaN and infinities are none."""
        found = np.asarray(values, np.float64)
        found = found[np.isfinite(found)]
        places = np.searchsorted(self._bounds, found, side="left")  # a bucket holds its upper bound
        self._counts += np.bincount(places, minlength=len(self._counts))
        self._sum += float(found.sum())

    @property
    def value(self) -> "HistogramValue":
        """What it holds now."""
        bounds = (*(f"{bound:g}" for bound in self._bounds), "+Inf")
        return HistogramValue(tuple(zip(bounds, self._counts.cumsum().tolist(), strict=True)), self._sum)


@dataclass(frozen=True)
class HistogramValue:
    """How many values are no greater than each bound, the last of which is `+Inf`, and their sum."""

    buckets: tuple[tuple[str, int], ...]
    sum: float


@dataclass(frozen=True)
class Snapshot:
    """Every series at one moment."""

    counters: Mapping[Series, int] = field(default_factory=dict)
    gauges: Mapping[Series, float] = field(default_factory=dict)
    histograms: Mapping[Series, HistogramValue] = field(default_factory=dict)


class _Answer(NamedTuple):
    stages: Sequence[Mapping[str, float]]
    rows: int
    scores: Sequence[float]
    ages: Mapping[str, Sequence[float | None]]
    missing: Sequence[Sequence[str]]
    cache_hits: int
    degraded: Sequence[str]


class ServingMetrics:
    """The metrics of one product in one replica.

    Requests are reported from one thread, the event loop's. What they pass is read later, and must not change.
    """

    def __init__(self, product: str, *, in_flight_limit: int | None = None) -> None:
        self._product = product
        self._pending: deque[_Answer | int] = deque()
        self._lock = Lock()
        self._counters: Counter[Series] = Counter()
        self._histograms: dict[Series, Histogram] = {}
        self._model_version: int | None = None
        self._in_flight = 0
        self._in_flight_limit = in_flight_limit

    def answered(
        self,
        *,
        stages: Sequence[Mapping[str, float]],
        rows: int,
        scores: Sequence[float],
        ages: Mapping[str, Sequence[float | None]],
        missing: Sequence[Sequence[str]],
        cache_hits: int,
        model_version: int | None,
        degraded: Sequence[str],
    ) -> None:
        """Requests were answered together, with status 200.

        `stages` are, of each request, seconds by stage; `rows` all that were answered, `ages` seconds by view,
        `missing` names for each row the views without a value; `model_version` None is the baseline.
        """
        self._model_version = model_version or BASELINE_VERSION
        self._pending.append(_Answer(stages, rows, scores, ages, missing, cache_hits, degraded))
        if len(self._pending) > MOST_PENDING:
            self._add_up()

    def refused(self, status: int) -> None:
        """A request was answered with another HTTP status."""
        self._pending.append(status)
        if len(self._pending) > MOST_PENDING:
            self._add_up()

    def in_flight(self, count: int) -> None:
        """So many requests are in hand now."""
        self._in_flight = count

    def serves(self, model_version: int | None) -> None:
        """From now on this version answers; None is the baseline. So it is known before the first request."""
        self._model_version = model_version or BASELINE_VERSION

    def snapshot(self) -> Snapshot:
        """Every series now."""
        self._add_up()
        with self._lock:
            histograms = {series: histogram.value for series, histogram in self._histograms.items()}
            return Snapshot(dict(self._counters), self._gauges(), histograms)

    def collect(self) -> Iterator["Family"]:
        """For a registry of prometheus_client: `registry.register(metrics)`."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        kinds = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}
        families: dict[str, Any] = {
            name: kinds[metric.kind](name, metric.help, labels=metric.labels) for name, metric in METRICS.items()
        }
        now = self.snapshot()
        for (name, labels), value in (*now.counters.items(), *now.gauges.items()):
            families[name].add_metric(labels, value)
        for (name, labels), held in now.histograms.items():
            families[name].add_metric(labels, held.buckets, held.sum)
        yield from families.values()

    def _gauges(self) -> dict[Series, float]:
        levels = {
            "mlway_model_version": self._model_version,
            "mlway_requests_in_flight": self._in_flight,
            "mlway_requests_in_flight_limit": self._in_flight_limit,
        }
        return {(name, (self._product,)): level for name, level in levels.items() if level is not None}

    def _add_up(self) -> None:
        """Take what is queued into the series. Whatever thread does it, each request counts once."""
        with self._lock:
            queued = [self._pending.popleft() for _ in range(len(self._pending))]
            answers = [each for each in queued if isinstance(each, _Answer)]
            statuses = [each for each in queued if isinstance(each, int)]
            self._count(answers, statuses)
            self._observe(answers)

    def _count(self, answers: Sequence[_Answer], statuses: Sequence[int]) -> None:
        by_status = Counter(statuses)
        by_status[200] += sum(len(answer.stages) for answer in answers)
        for status, count in by_status.items():
            self._increase("mlway_requests_total", count, str(status))
        self._increase("mlway_rows_total", sum(answer.rows for answer in answers))
        self._increase("mlway_cache_hits_total", sum(answer.cache_hits for answer in answers))
        for view, count in Counter(view for each in answers for row in each.missing for view in row).items():
            self._increase("mlway_missing_features_total", count, view)
        for answer in answers:
            for part in answer.degraded:
                self._increase("mlway_degraded_total", len(answer.stages), part)

    def _increase(self, name: str, count: int, *labels: str) -> None:
        self._counters[name, (self._product, *labels)] += count

    def _observe(self, answers: Sequence[_Answer]) -> None:
        values: defaultdict[Series, list[float | None]] = defaultdict(list)
        for answer in answers:
            for stages in answer.stages:
                for stage, seconds in stages.items():
                    values["mlway_request_seconds", (self._product, stage)].append(seconds)
            for view, ages in answer.ages.items():
                values["mlway_feature_age_seconds", (self._product, view)] += ages
            values["mlway_score", (self._product,)] += answer.scores
        for series, found in values.items():
            if series not in self._histograms:
                self._histograms[series] = Histogram(METRICS[series[0]].buckets)
            self._histograms[series].add(found)

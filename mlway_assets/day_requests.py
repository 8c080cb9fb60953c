"""Bodies of requests that an application would send on the day that has come: about its rows, one after the other."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from mlway_assets.compute.population import QUERY, rows_to_score
from mlway_assets.resources import Platform
from serving.messages import MOST_CANDIDATES

_MOST = 200
"""Bodies of a day; then they begin again."""


class DayRequests:
    """Bodies about the population's rows of the clock's day, each day anew: a row each, or a ranking's whole query."""

    def __init__(self, platform: Platform, product: str) -> None:
        self._platform, self._product = platform, platform.project.products[product]
        self._now: datetime | None = None
        self._bodies: Sequence[dict[str, Any]] = ()
        self._next = 0

    @property
    def call(self) -> str:
        """What of the endpoint they are for."""
        return "predict" if self._product.ranking is None else "rank"

    def next(self) -> dict[str, Any] | None:
        """The next body; None where no day has brought a row yet."""
        now = self._platform.clock.now()
        if now != self._now:
            self._now, self._bodies = now, self._read(now) or self._bodies
        if not self._bodies:
            return None
        body = self._bodies[self._next % len(self._bodies)]
        self._next += 1
        return body

    def _read(self, now: datetime) -> list[dict[str, Any]]:
        population = self._product.population
        table = self._platform.lake.scan("curated", population.table)
        time = pl.col(population.event_time)
        rows = rows_to_score(self._product, table.filter((time >= now) & (time < now + timedelta(days=1))), now)
        asked = rows.collect().drop_nulls(population.event_time).sort(population.event_time, *population.request)
        most, seed = min(MOST_CANDIDATES, self._product.endpoint.max_instances), int(now.timestamp()) % 2**31
        if self._product.ranking is None:
            places = pl.int_range(len(asked), eager=True).sample(min(_MOST, len(asked)), seed=seed).sort()
            return [{"instances": [row]} for row in _as_json(asked[places].select(*population.request))]
        # A query that is longer than a request may be cannot be asked for.
        asked = asked.filter(pl.len().over(QUERY) <= most)
        queries = asked[QUERY].unique(maintain_order=True)
        drawn = queries.sample(min(_MOST, len(queries)), seed=seed)
        found = asked.filter(pl.col(QUERY).is_in(drawn.implode())).partition_by(QUERY, maintain_order=True)
        return [{"candidates": _as_json(query.select(*population.request))} for query in found]


def _as_json(rows: pl.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            name: value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
            for name, value in row.items()
        }
        for row in rows.iter_rows(named=True)
    ]

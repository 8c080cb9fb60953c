"""CSV, Parquet and NDJSON files in a local folder or an object store."""

import fnmatch
import json
import re
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

import polars as pl
from obstore.exceptions import BaseError as ObjectStoreError
from obstore.store import LocalStore, ObjectStore, from_url

from configs.load import PROJECT_ROOT
from configs.sources import FilesSource, FileTable
from mlway_assets.secrets import resolve_secrets
from mlway_assets.sources.reading import EVENT_DAY, Changes, DaysRead, SourceError, conform, with_event_day
from mlway_assets.sources.tabular import parse

_DAY = "{day}"


class FilesReader:
    """Reads the files whose path matches the table's pattern."""

    def __init__(self, source: FilesSource, table: FileTable) -> None:
        self.table = table
        self.place = table.path
        self._source = source
        self._folder, self._pattern = _split(table.path)

    def read_days(self, days: Sequence[date]) -> DaysRead:
        """The rows in each day's files. A day fails alone: without a file, or with a broken one."""
        frames, failures = [], {}
        for day in days:
            try:
                frames.append(self._read_day(day))
            except SourceError as error:
                failures[day] = error
        return DaysRead(pl.concat(frames) if frames else pl.DataFrame(), failures)

    def read_snapshot(self) -> pl.DataFrame:
        """The rows in all files."""
        return self._read_matching(self._pattern)

    def changes(self, cursor: str | None) -> Changes:
        """Files that are new, or whose size or modification time differs. The cursor is what was seen, as JSON."""
        seen = json.loads(cursor) if cursor else {}
        found = dict(sorted(self._found(self._pattern.replace(_DAY, "*"))))
        changed = [path for path, stamp in found.items() if seen.get(path) != stamp]
        text = json.dumps(found)
        if not self.table.is_partitioned:
            return Changes((), bool(changed), text)
        days = {day for path in changed if (day := self._day_of(path)) is not None}
        return Changes(tuple(sorted(days)), False, text)

    def _read_day(self, day: date) -> pl.DataFrame:
        frame = with_event_day(self._read_matching(self._pattern.replace(_DAY, day.isoformat())), self.table)
        strangers = frame.filter(pl.col(EVENT_DAY).ne_missing(day))
        if len(strangers):
            raise SourceError(
                self.place.replace(_DAY, day.isoformat()),
                f"{len(strangers)} rows are of other days, such as {strangers[EVENT_DAY][0]}",
                "put each day's rows into its own file.",
            )
        return frame

    def _read_matching(self, pattern: str) -> pl.DataFrame:
        store = self._store()
        paths = sorted(path for path, _ in self._found(pattern))
        if not paths:
            raise SourceError(f"{self._folder}/{pattern}", "there is no such file", "deliver it, or mend `path`.")
        frames = []
        for path in paths:
            place = f"{self._folder}/{path}"
            content = bytes(store.get(path).bytes())
            frame = parse(content, self.table.format, place, self.table.null_values)
            frames.append(conform(frame, self.table, place))
        return pl.concat(frames)

    def _found(self, pattern: str) -> Iterator[tuple[str, str]]:
        try:
            for batch in self._store().list():
                for item in batch:
                    if fnmatch.fnmatch(item["path"], pattern):
                        yield item["path"], f"{item['size']} {item['last_modified'].isoformat()}"
        except ObjectStoreError as error:
            raise SourceError(
                self._folder, f"cannot be listed: {error}", "mend `path`, `storage_options` or the secrets."
            ) from error

    def _day_of(self, path: str) -> date | None:
        pattern = fnmatch.translate(self._pattern.replace(_DAY, "\0")).replace("\0", r"(\d{4}-\d{2}-\d{2})", 1)
        match = re.match(pattern.replace("\0", r"\d{4}-\d{2}-\d{2}"), path)
        return date.fromisoformat(match[1]) if match else None

    def _store(self) -> ObjectStore:
        if "://" in self._folder:
            options = self._source.storage_options | resolve_secrets(self._source.storage_secrets)
            return from_url(self._folder, config=options)  # type: ignore[no-any-return,call-overload]
        if not Path(self._folder).is_dir():
            raise SourceError(self._folder, "there is no such folder", "create it, or mend `path`.")
        return LocalStore(self._folder)


def _split(path: str) -> tuple[str, str]:
    """The folder that is listed, which holds no pattern, and the pattern below it."""
    if "://" not in path:
        path = str(PROJECT_ROOT / path)
    parts = path.split("/")
    first = next((i for i, part in enumerate(parts) if "*" in part or _DAY in part), len(parts) - 1)
    return "/".join(parts[:first]) or str(Path("/")), "/".join(parts[first:])

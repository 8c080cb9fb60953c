"""CSV, Parquet and NDJSON files in a local folder or an object store."""

import fnmatch
import json
import re
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
from obstore.exceptions import BaseError as ObjectStoreError
from obstore.store import LocalStore, ObjectStore, from_url

from configs.load import PROJECT_ROOT
from configs.secrets import resolve_secrets
from configs.sources import EVENT_DAY, FilesSource, FileTable
from mlway_assets.sources.reading import Changes, DaysRead, SourceError, conform
from mlway_assets.sources.tabular import parse

_DAY = "{day}"
# Obstore takes these apart from the store's own options; the lake takes them together.
_CLIENT_OPTIONS = frozenset({
    "allow_http", "allow_invalid_certificates", "connect_timeout", "http1_only", "http2_only", "pool_idle_timeout",
    "pool_max_idle_per_host", "proxy_ca_certificate", "proxy_excludes", "proxy_url", "randomize_addresses", "timeout",
    "user_agent",
})  # fmt: skip


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
        frame = self._read_matching(self._pattern.replace(_DAY, day.isoformat()))
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
            try:
                content = bytes(store.get(path).bytes())
            except ObjectStoreError as error:
                raise SourceError(place, f"cannot be read: {_first_line(error)}", "deliver it again.") from error
            frame = parse(content, self.table.format, place, self.table.null_values)
            frames.append(conform(frame, self.table, place))
        return pl.concat(frames)

    def _found(self, pattern: str) -> Iterator[tuple[str, str]]:
        store = self._store()
        try:
            for batch in store.list():
                for item in batch:
                    # fnmatch's * would also match the slash of a folder below.
                    if item["path"].count("/") == pattern.count("/") and fnmatch.fnmatch(item["path"], pattern):
                        yield item["path"], f"{item['size']} {item['last_modified'].isoformat()}"
        except ObjectStoreError as error:
            raise SourceError(
                self._folder,
                f"cannot be listed: {_first_line(error)}",
                "mend `path`, `storage_options` or the secrets.",
            ) from error

    def _day_of(self, path: str) -> date | None:
        pattern = fnmatch.translate(self._pattern.replace(_DAY, "\0")).replace("\0", r"(\d{4}-\d{2}-\d{2})", 1)
        match = re.match(pattern.replace("\0", r"\d{4}-\d{2}-\d{2}"), path)
        try:
            return date.fromisoformat(match[1]) if match else None
        except ValueError:  # 2013-02-30 is no day, so the file is no day's
            return None

    def _store(self) -> ObjectStore:
        if "://" in self._folder:
            options = self._source.storage_options | resolve_secrets(self._source.storage_secrets)
            client: Any = {_bare(name): value for name, value in options.items() if _bare(name) in _CLIENT_OPTIONS}
            # Any: obstore's types name every option of every store, and which one this is the URL says.
            config: Any = {name: value for name, value in options.items() if _bare(name) not in _CLIENT_OPTIONS}
            try:
                return from_url(self._folder, config=config, client_options=client)
            except ObjectStoreError as error:
                raise SourceError(self._folder, _first_line(error), "mend `path` or `storage_options`.") from error
        if not Path(self._folder).is_dir():
            raise SourceError(self._folder, "there is no such folder", "create it, or mend `path`.")
        return LocalStore(self._folder)


def _bare(option: str) -> str:
    return option.removeprefix("aws_").removeprefix("google_").removeprefix("azure_")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def _split(path: str) -> tuple[str, str]:
    """The folder that is listed, which holds no pattern, and the pattern below it."""
    if "://" not in path:
        path = str(PROJECT_ROOT / path)
    parts = path.split("/")
    first = next((i for i, part in enumerate(parts) if "*" in part or _DAY in part), len(parts) - 1)
    return "/".join(parts[:first]) or str(Path("/")), "/".join(parts[first:])

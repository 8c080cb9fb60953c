"""The reader of each declared table."""

from configs.sources import FilesSource, NycFlightsSource, Source
from mlway_assets.sources.reading import TableReader


def build_reader(source: Source, table: str) -> TableReader:
    """A reader of `table` in `source`. Drivers load here, not at import."""
    if isinstance(source, NycFlightsSource):
        from mlway_assets.sources.nycflights import NycFlightsReader

        return NycFlightsReader(table, source.tables[table])
    if isinstance(source, FilesSource):
        from mlway_assets.sources.files import FilesReader

        return FilesReader(source, source.tables[table])
    from mlway_assets.sources.sql import SqlReader

    return SqlReader(source, source.tables[table])

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from configs.secrets import MissingSecretError
from feature_repo.column_types import POLARS_TYPES
from mlway_assets.sources.reading import Changes, SourceError

FIRST, SECOND, THIRD = date(2013, 10, 1), date(2013, 10, 2), date(2013, 10, 3)
COLUMNS = {"id": "int64", "day": "date", "at": "timestamp"}
EVERY_TYPE = COLUMNS | {"price": "float64", "is_open": "boolean", "name": "string"}
MIDNIGHT = datetime(2013, 10, 2, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@pytest.fixture
def filled(database: Any) -> Any:
    """Three days of deliveries; `at` is when a row was last changed."""
    database.create(
        "deliveries",
        "1, '2013-10-01', '2013-10-05T00:00:00.000001Z'",
        "2, '2013-10-02', '2013-10-05T00:00:00.000002Z'",
        "3, '2013-10-03', '2013-10-05T00:00:00.000003Z'",
        **COLUMNS,
    )
    return database


def days_of(changes: Changes) -> tuple[date, ...]:
    assert not changes.has_snapshot_changed
    return changes.days


def test_a_snapshot_reads_as_declared(database: Any) -> None:
    yes = "true" if database.is_postgresql else "1"
    whole, nothing = f"1, '2013-10-01', '2013-10-01T05:00:00.000001Z', 2.5, {yes}, 'é'", "2" + ", NULL" * 5
    database.create("deliveries", whole, nothing, **EVERY_TYPE)
    frame = database.reader(EVERY_TYPE).read_snapshot()
    at = datetime(2013, 10, 1, 5, 0, 0, 1, tzinfo=UTC)
    assert sorted(frame.rows()) == [(1, FIRST, at, 2.5, True, "é"), (2, None, None, None, None, None)]
    assert frame.schema == {name: POLARS_TYPES[kind] for name, kind in EVERY_TYPE.items()}


def test_an_empty_table_reads_as_declared(database: Any) -> None:
    database.create("deliveries", **EVERY_TYPE)
    frame = database.reader(EVERY_TYPE).read_snapshot()
    assert frame.is_empty()
    assert frame.schema == {name: POLARS_TYPES[kind] for name, kind in EVERY_TYPE.items()}


def test_columns_that_are_not_declared_are_left_in_the_database(filled: Any) -> None:
    assert filled.reader({"id": "int64"}).read_snapshot().columns == ["id"]


def test_a_view_is_read_like_a_table(filled: Any) -> None:
    filled.execute("CREATE VIEW late AS SELECT id FROM deliveries WHERE id > 1")
    assert sorted(filled.reader({"id": "int64"}, "late").read_snapshot()["id"]) == [2, 3]


def test_a_column_whose_first_thousands_of_rows_are_null_is_read(database: Any) -> None:
    database.create("deliveries", id="int64", name="string", price="float64")
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)"
    database.execute(f"INSERT INTO deliveries {numbers} SELECT i, NULL, NULL FROM n")
    database.execute("INSERT INTO deliveries VALUES (3001, 'last', 0.5)")
    frame = database.reader({"id": "int64", "name": "string", "price": "float64"}).read_snapshot()
    assert frame.sort("id").row(-1) == (3001, "last", 0.5)
    assert len(frame) == 3001


def test_exactly_the_asked_dates_are_read(filled: Any) -> None:
    read = filled.reader(COLUMNS, event_day=["day"]).read_days([FIRST, THIRD, date(2013, 10, 9)])
    assert sorted(read.frame["id"]) == [1, 3]
    assert sorted(read.frame["event_day"]) == [FIRST, THIRD]
    assert not read.failures


def test_a_day_begins_and_ends_at_midnight_in_utc(database: Any) -> None:
    moments = [MIDNIGHT - MICROSECOND, MIDNIGHT, MIDNIGHT + timedelta(days=1) - MICROSECOND]
    moments = [*moments, MIDNIGHT + timedelta(days=1)]
    texts = [moment.isoformat(timespec="microseconds").replace("+00:00", "Z") for moment in moments]
    database.create("deliveries", *(f"{i}, '{text}'" for i, text in enumerate(texts)), id="int64", at="timestamp")
    reader = database.reader({"id": "int64", "at": "timestamp"}, event_day=["at"])
    assert sorted(reader.read_days([SECOND]).frame["at"]) == moments[1:3]
    assert days_of(reader.changes(None)) == (FIRST, SECOND, THIRD)


def test_a_day_without_rows_is_read_as_none(filled: Any) -> None:
    read = filled.reader(COLUMNS, event_day=["day"]).read_days([date(2020, 1, 1)])
    assert (len(read.frame), dict(read.failures)) == (0, {})


@pytest.mark.parametrize("cursor_column", ["id", "at"])
def test_exactly_the_days_with_rows_above_the_cursor_have_changed(filled: Any, cursor_column: str) -> None:
    reader = filled.reader(COLUMNS, event_day=["day"], cursor_column=cursor_column)
    first = reader.changes(None)
    assert days_of(first) == (FIRST, SECOND, THIRD)
    again = reader.changes(first.cursor)
    assert (days_of(again), again.cursor) == ((), first.cursor)

    late = "'2013-10-05T00:00:00.000004Z'"
    filled.execute(f"INSERT INTO deliveries VALUES (4, '2013-10-02', {late}), (5, '2013-10-02', {late})")
    second = reader.changes(first.cursor)
    assert days_of(second) == (SECOND,)
    assert days_of(reader.changes(second.cursor)) == ()


@pytest.mark.parametrize(("cursor_column", "above"), [("id", "10"), ("at", "'2013-10-05T00:00:01.000000Z'")])
def test_a_corrected_row_brings_its_day_back(filled: Any, cursor_column: str, above: str) -> None:
    reader = filled.reader(COLUMNS, event_day=["day"], cursor_column=cursor_column)
    cursor = reader.changes(None).cursor
    filled.execute(f"UPDATE deliveries SET {cursor_column} = {above} WHERE id = 1")
    assert days_of(reader.changes(cursor)) == (FIRST,)


def test_a_row_that_moves_to_another_day_brings_that_day_back(filled: Any) -> None:
    reader = filled.reader(COLUMNS, event_day=["day"], cursor_column="at")
    cursor = reader.changes(None).cursor
    filled.execute("UPDATE deliveries SET day = '2013-10-03', at = '2013-10-05T00:00:01.000000Z' WHERE id = 1")
    assert days_of(reader.changes(cursor)) == (THIRD,)
    assert sorted(reader.read_days([THIRD]).frame["id"]) == [1, 3]
    assert reader.read_days([FIRST]).frame.is_empty()


@pytest.mark.parametrize("cursor_column", ["id", "at"])
def test_a_snapshot_has_changed_when_rows_are_above_the_cursor(filled: Any, cursor_column: str) -> None:
    reader = filled.reader(COLUMNS, cursor_column=cursor_column)
    first = reader.changes(None)
    assert (first.days, first.has_snapshot_changed) == ((), True)
    assert not reader.changes(first.cursor).has_snapshot_changed
    filled.execute("INSERT INTO deliveries VALUES (4, '2013-10-02', '2013-10-06T00:00:00.000000Z')")
    assert reader.changes(first.cursor).has_snapshot_changed


@pytest.mark.parametrize("event_day", [[], ["day"]])
def test_a_table_without_a_cursor_column_is_read_once(filled: Any, event_day: list[str]) -> None:
    reader = filled.reader(COLUMNS, event_day=event_day)
    first = reader.changes(None)
    assert (first.days, first.has_snapshot_changed) == (((FIRST, SECOND, THIRD), False) if event_day else ((), True))
    second = reader.changes(first.cursor or None)  # as the sensor asks, to which an empty cursor is none
    assert (second.days, second.has_snapshot_changed) == ((), False)


def test_nothing_in_an_empty_table_has_changed(database: Any) -> None:
    database.create("deliveries", **COLUMNS)
    reader = database.reader(COLUMNS, event_day=["day"], cursor_column="id")
    first = reader.changes(None)
    assert days_of(first) == ()
    database.execute("INSERT INTO deliveries VALUES (1, '2013-10-01', NULL)")
    assert days_of(reader.changes(first.cursor or None)) == (FIRST,)


def test_a_failing_query_fails_its_days_by_the_tables_name(database: Any) -> None:
    reader = database.reader(COLUMNS, "nowhere", event_day=["day"])
    with pytest.raises(SourceError, match=r"^shop:nowhere: the query failed: .*\nHint: check SHOP_DATABASE") as caught:
        reader.changes(None)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    failures = reader.read_days([FIRST, SECOND]).failures
    assert [(day, str(failures[day])) for day in failures] == [(FIRST, str(caught.value)), (SECOND, str(caught.value))]


def test_a_missing_column_is_named(filled: Any) -> None:
    with pytest.raises(SourceError, match=r"^shop:deliveries: .*price"):
        filled.reader({"id": "int64", "price": "float64"}).read_snapshot()


def test_a_mistyped_column_fails_its_days(database: Any) -> None:
    database.create("deliveries", "'cheap', '2013-10-01'", price="string", day="date")
    read = database.reader({"price": "float64", "day": "date"}, event_day=["day"]).read_days([FIRST])
    assert "shop:deliveries: column 'price' does not read as float64" in str(read.failures[FIRST])


def test_timestamps_without_a_zone_are_refused(database: Any) -> None:
    database.execute("CREATE TABLE deliveries (at TIMESTAMP)", "INSERT INTO deliveries VALUES ('2013-10-01 05:00:00')")
    with pytest.raises(SourceError, match="column 'at' does not read as timestamp"):
        database.reader({"at": "timestamp"}).read_snapshot()


def test_a_missing_secret_is_named(filled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = filled.reader(COLUMNS, event_day=["day"])
    monkeypatch.delenv("SHOP_DATABASE")
    for use in (reader.read_snapshot, lambda: reader.read_days([FIRST]), lambda: reader.changes(None)):
        with pytest.raises(MissingSecretError, match="The secret SHOP_DATABASE is not set"):
            use()


def test_a_database_file_with_an_odd_name_is_read(sqlite: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sqlite.create("deliveries", "1", id="int64")
    odd = (tmp_path / "shop.db").rename(tmp_path / "50% of what? #1.db")
    monkeypatch.setenv("SHOP_DATABASE", f"sqlite:///{odd}")
    assert sqlite.reader({"id": "int64"}).read_snapshot()["id"].to_list() == [1]


def test_a_missing_database_file_is_an_error_and_is_not_created(sqlite: Any, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"^shop:deliveries: the query failed: .*shop\.db"):
        sqlite.reader({"id": "int64"}).read_snapshot()
    assert not (tmp_path / "shop.db").exists()


def test_text_that_is_no_day_is_refused(sqlite: Any) -> None:
    sqlite.create("deliveries", "'01/10/2013'", day="date")
    with pytest.raises(SourceError, match=r"^shop:deliveries: column 'day' holds no day"):
        sqlite.reader({"day": "date"}, event_day=["day"]).changes(None)


def test_postgresql_moments_are_of_their_day_in_utc(postgresql: Any) -> None:
    postgresql.create("deliveries", "'2013-09-30T22:30:00-05:00'", at="timestamp")
    reader = postgresql.reader({"at": "timestamp"}, event_day=["at"])
    assert days_of(reader.changes(None)) == (FIRST,)
    assert reader.read_days([FIRST]).frame["at"].to_list() == [datetime(2013, 10, 1, 3, 30, tzinfo=UTC)]


def test_postgresql_numbers_and_documents_are_read(postgresql: Any) -> None:
    postgresql.execute(
        "CREATE TABLE deliveries (price NUMERIC(10, 2), pieces SMALLINT, note JSONB)",
        """INSERT INTO deliveries VALUES (1.15, 3, '{"a": 1}'), (NULL, NULL, NULL)""",
    )
    frame = postgresql.reader({"price": "float64", "pieces": "int64", "note": "string"}).read_snapshot()
    assert sorted(frame.rows(), key=str) == [(1.15, 3, '{"a": 1}'), (None, None, None)]


def test_a_postgresql_table_may_be_in_another_schema(postgresql: Any) -> None:
    postgresql.execute("DROP SCHEMA IF EXISTS stock CASCADE", "CREATE SCHEMA stock")
    postgresql.create("stock.deliveries", "1", id="int64")
    assert len(postgresql.reader({"id": "int64"}, "stock.deliveries").read_snapshot()) == 1


def test_a_postgresql_query_that_fails_on_the_way_is_a_source_error(postgresql: Any) -> None:
    postgresql.execute("CREATE VIEW deliveries AS SELECT 1 / (100000 - i) AS id FROM generate_series(1, 100000) i")
    with pytest.raises(SourceError, match=r"^shop:deliveries: the query failed: .*division by zero"):
        postgresql.reader({"id": "int64"}).read_snapshot()


@pytest.mark.parametrize(
    "password", ["hunter2", "hun/ter2", "hun@ter2", "hun%ter2", "hun:ter2", "hun#ter2", "[hunter2", "hunter%32"]
)
@pytest.mark.parametrize("rest", ["127.0.0.1:1/shop", "127.0.0.1:port/shop", "[127.0.0.1/shop", "127.0.0.1:1/a?b=c&"])
def test_no_piece_of_the_password_is_ever_said(
    sqlite: Any, monkeypatch: pytest.MonkeyPatch, password: str, rest: str
) -> None:
    question = "" if "?" in rest else "?"
    # With hostaddr no name is looked up, not even when a piece of the password is taken for one.
    monkeypatch.setenv("SHOP_DATABASE", f"postgresql://clerk:{password}@{rest}{question}hostaddr=127.0.0.1")
    with pytest.raises(SourceError, match=r"^shop:deliveries: the query failed: ") as caught:
        sqlite.reader({"id": "int64"}).read_snapshot()
    assert "hun" not in str(caught.value)
    assert "ter2" not in str(caught.value)

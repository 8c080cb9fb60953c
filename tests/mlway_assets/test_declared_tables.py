"""Curated tables declared in source files: what is refused before anything runs, and what a run writes."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from textwrap import dedent
from typing import Any

import pandera.errors
import polars as pl
import pytest
import yaml

from configs.environments import Lake as LakeAddress
from configs.errors import ConfigError
from configs.features import WindowedFeatures
from configs.load import PROJECT_ROOT, Project, load_project
from configs.monitoring import Monitoring
from configs.sources import FilesSource
from mlway_assets.curation import CURATED_TABLES, CuratedTable, curate
from mlway_assets.declarations import check_declarations
from mlway_assets.declared_tables import curated_tables, declared_table
from mlway_assets.lake import Lake

DAYS = [date(2024, 3, 1), date(2024, 3, 2)]
COLUMNS = {"id": "int64", "price": "float64", "shop": "string", "at": "timestamp"}


def source(*, by_day: bool = False, raw: str = "sales", **curated: Any) -> FilesSource:
    table = {"description": "Sales.", "format": "parquet", "columns": COLUMNS, "curated": {"key": ["id"]} | curated}
    place = {"path": "sales/{day}.parquet", "event_day": ["at"]} if by_day else {"path": "sales/*.parquet"}
    owned = {"name": "shop", "kind": "files", "description": "The shop.", "owner": "team:shop"}
    return FilesSource.model_validate(owned | {"tables": {raw: table | place}})


def project(declared: FilesSource, **features: Any) -> Project:
    return Project({"shop": declared}, features, {})


def price(expression: str, kind: str = "float64") -> dict[str, Any]:
    return {"columns": {"id": {"type": "int64"}, "price": {"expression": expression, "type": kind}}}


def test_a_declared_table_is_called_described_and_owned_as_declared() -> None:
    table = declared_table(source(by_day=True, name="fact_sales", **price("price * 1.2")), "sales")
    assert (table.name, table.description, table.owner) == ("fact_sales", "Sales.", "team:shop")
    assert table.columns == {"event_day": pl.Date(), "id": pl.Int64(), "price": pl.Float64()}
    assert table.inputs == (("raw", "sales"),)
    assert table.is_partitioned
    assert table.column_inputs("event_day") == [(("raw", "sales"), "at")]


def test_by_default_it_is_called_like_the_raw_table() -> None:
    assert list(curated_tables(project(source()))) == ["sales"]


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (price("pryce * 2"), r"columns\.price\.expression': pryce is not among the columns at, id, price, shop"),
        (price("price *"), "'price \\*' does not parse"),
        (price("price + shop"), "'price \\+ shop' cannot be computed"),
        (price("NOSUCH(price)"), "does not parse"),
        (price("price - AVG(price)"), r"looks at more than one row \(Agg\)(.|\n)*kind: windowed"),
        (price("LAG(price) OVER (ORDER BY at)"), "looks at more than one row"),
        (price("SUM(price) OVER (PARTITION BY shop)"), "looks at more than one row"),
        (price("RANK() OVER (ORDER BY price)"), "looks at more than one row"),
        (price("COUNT(*)"), "looks at more than one row"),
        (price("DATE(at)", "timestamp"), r"columns\.price\.type': values of Date do not become timestamp"),
        (price("NOW()", "timestamp"), "do not become timestamp(.|\n)*with its time zone"),
        (price("at", "int64"), "do not become int64"),
        ({"checks": {"paid": "pryce > 0"}}, r"tables\.sales\.curated\.checks\.paid': pryce is not among"),
        ({"checks": {"paid": "price"}}, "'price' is no condition: it gives Float64"),
        ({"checks": {"paid": "price = MAX(price)"}}, "looks at more than one row"),
    ],
)
def test_a_wrong_expression_is_named_before_anything_runs(declared: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"sources/shop\.yaml(.|\n)*{message}"):
        curated_tables(project(source(**declared)))


@pytest.mark.parametrize(
    "expression",
    ["SUBSTR(shop, 1, 2)", "UPPER(shop) || '-'", "CASE WHEN shop = 'Len' THEN 'Agg' END", "REPLACE(shop, 'a', 'b')"],
)
def test_an_expression_within_its_row_is_taken(expression: str) -> None:
    assert curated_tables(project(source(**price(expression, "string"))))


def test_a_name_of_a_table_written_in_python_is_taken() -> None:
    bundled = load_project()
    with pytest.raises(ConfigError, match=r"sources/shop\.yaml.*'tables\.sales\.curated\.name'.*'dim_carrier' already"):
        curated_tables(Project({**bundled.sources, "shop": source(name="dim_carrier")}, {}, {}))


def test_tables_written_in_python_are_there_for_their_raw_tables_only() -> None:
    assert set(curated_tables(load_project())) == set(CURATED_TABLES)
    assert set(curated_tables(project(source()))) == {"sales"}


def test_a_raw_table_that_a_python_function_takes_with_another_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'dim_airport' of this table and of raw/airports_supplement, which no"):
        curated_tables(project(source(raw="airports")))


def test_a_raw_table_called_like_one_that_a_python_function_takes_must_have_its_columns() -> None:
    with pytest.raises(
        ConfigError, match=r"'tables\.planes': .*'dim_aircraft' of this table and of its column 'tailnum'"
    ):
        curated_tables(project(source(raw="planes")))


def test_the_readmes_files_hold_together() -> None:
    text = (PROJECT_ROOT / "README.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(dedent(block)) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    limits, source_file, feature_file = blocks
    assert Monitoring.model_validate(limits["monitoring"]) == Monitoring(), (
        "the README says that these are the defaults"
    )
    sources = FilesSource.model_validate(source_file)
    group = WindowedFeatures.model_validate(feature_file)
    declared = Project({sources.name: sources}, {group.name: group}, {})
    check_declarations(declared, curated_tables(declared))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"join_keys": {"shop": "int64"}}, r"'join_keys\.shop': the column 'shop' holds String, not int64"),
        ({"known_at": "price"}, "'known_at': the column 'price' holds Float64, not timestamp"),
    ],
)
def test_features_of_a_declared_table_must_fit_its_types(change: Mapping[str, Any], message: str) -> None:
    group = WindowedFeatures.model_validate(
        {
            "name": "shop_sales",
            "kind": "windowed",
            "description": "x",
            "owner": "team:shop",
            "entity": "shop",
            "join_keys": {"shop": "string"},
            "table": "sales",
            "known_at": "at",
            "windows": ["1d"],
            "aggregations": {"sales": {"function": "count"}},
        }
        | change
    )
    declared = project(source(), shop_sales=group)
    with pytest.raises(ConfigError, match=rf"features/shop_sales\.yaml, field {message}"):
        check_declarations(declared, curated_tables(declared))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(LakeAddress(uri=str(tmp_path / "lake")))


def write_raw(lake: Lake, *rows: tuple[int, float, date]) -> None:
    frame = pl.DataFrame(
        [
            {"id": number, "price": price, "shop": "a", "at": datetime(day.year, day.month, day.day, tzinfo=UTC)}
            for number, price, day in rows
        ],
        {"id": pl.Int64, "price": pl.Float64, "shop": pl.String, "at": pl.Datetime("us", "UTC")},
    )
    stamped = frame.with_columns(
        pl.col("at").dt.date().alias("event_day"),
        pl.lit(datetime(2024, 3, 3, tzinfo=UTC)).alias("ingested_at"),
        pl.lit("sales").alias("ingested_from"),
    )
    lake.replace_days("raw", "sales", stamped, DAYS)


def by_day(**curated: Any) -> CuratedTable:
    return declared_table(source(by_day=True, checks={"price_is_positive": "price > 0"}, **curated), "sales")


def content(lake: Lake, layer: str) -> list[Any]:
    return lake.scan(layer, "sales").collect().sort("event_day").select("event_day", pl.nth(1)).rows()


def test_exactly_the_days_of_the_run_are_replaced(lake: Lake) -> None:
    write_raw(lake, (1, 2.0, DAYS[0]), (2, 2.0, DAYS[1]))
    curate(by_day(), lake, DAYS)
    write_raw(lake, (10, 2.0, DAYS[0]), (20, 2.0, DAYS[1]))
    written = curate(by_day(), lake, DAYS[1:])
    assert (written.version, written.curated.broken_share, written.broken.rows) == (1, 0, {})
    assert content(lake, "curated") == [(DAYS[0], 1), (DAYS[1], 20)]


def test_too_many_bad_rows_leave_the_table_as_it_was_and_are_in_the_quarantine(lake: Lake) -> None:
    write_raw(lake, (1, 2.0, DAYS[0]), (2, 2.0, DAYS[1]))
    curate(by_day(), lake, DAYS)
    write_raw(lake, (1, -2.0, DAYS[0]), (2, 3.0, DAYS[1]))
    written = curate(by_day(maximum_quarantined_share=0.4), lake, DAYS)
    assert (written.version, written.curated.broken_share) == (None, 0.5)
    assert lake.scan("curated", "sales").collect()["price"].to_list() == [2.0, 2.0]
    assert content(lake, "quarantine") == [(DAYS[0], "price_is_positive does not hold: price > 0")]


def test_as_many_bad_rows_as_declared_are_tolerated(lake: Lake) -> None:
    write_raw(lake, (1, -2.0, DAYS[0]), (2, 3.0, DAYS[1]))
    assert curate(by_day(maximum_quarantined_share=0.5), lake, DAYS).version == 0
    assert content(lake, "curated") == [(DAYS[1], 2)]


def test_the_declared_contract_finds_what_the_declaration_forbids() -> None:
    contract = by_day(not_null=["shop"]).contract()
    good = {"event_day": DAYS[0], "id": 1, "price": 1.0, "shop": "a", "at": datetime(2024, 3, 1, tzinfo=UTC)}
    schema = by_day().columns
    contract.validate(pl.DataFrame([good, good | {"id": 2, "price": None}], schema))
    for change in ({"price": -1.0, "id": 2}, {"shop": None, "id": 2}, {"price": 2.0}):
        with pytest.raises(pandera.errors.SchemaErrors):
            contract.validate(pl.DataFrame([good, good | change], schema), lazy=True)
    with pytest.raises(pandera.errors.SchemaErrors):
        contract.validate(pl.DataFrame([good], schema).drop("price"), lazy=True)

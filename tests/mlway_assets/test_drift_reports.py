"""Pages of pictures of input drift: what they tell, what they hold, and where they are found."""

import json
import re
import socket
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from configs.monitoring import InputDrift, Monitoring
from mlway_assets.asset_keys import input_drift_key
from mlway_assets.compute.drift_judgement import Expectation
from mlway_assets.compute.drift_page import DriftPage, draw_drift, sample
from mlway_assets.drift_monitoring import watch_inputs
from mlway_assets.drift_reports import NothingToDrawError, input_drift_page, write_input_drift_pages
from mlway_assets.local.graph import plan, run_jobs
from mlway_assets.resources import Platform

PRODUCT, DAY = "flight_delay", date(2013, 2, 8)
HOSTILE = "</script><script>alert(1)</script>"


def verdicts(page: str) -> dict[str, str]:
    """Of each column in the page's table, whether it has drifted."""
    [data] = re.findall(r"<script>\s*var \w+ = (\{.*?\});\s*var additional_graphs", page, re.DOTALL)
    found: dict[str, str] = {}

    def visit(part: object) -> None:
        if isinstance(part, dict):
            if "column_name" in part and "data_drift" in part:
                found[str(part["column_name"])] = str(part["data_drift"])
            for each in part.values():
                visit(each)
        elif isinstance(part, list):
            for each in part:
                visit(each)

    visit(json.loads(data))
    return found


def test_a_run_of_the_job_leaves_a_page_that_tells_the_drifted_column_and_is_linked_from_the_days_input_drift(
    copied: tuple[Platform, dg.DagsterInstance], monkeypatch: pytest.MonkeyPatch
) -> None:
    platform, instance = copied
    flights = platform.lake.scan_days("curated", "fact_flights", [DAY]).collect()
    platform.lake.replace_days("curated", "fact_flights", flights.with_columns(carrier=pl.lit(HOSTILE)), [DAY])
    [judged] = watch_inputs(platform.project.products[PRODUCT], platform, [DAY])
    runs = plan(platform, ["report"], products=[PRODUCT])
    with monkeypatch.context() as offline:
        offline.setattr(socket.socket, "connect", lambda *_: pytest.fail("a page needs no network"))
        run_jobs(platform, instance, runs, lambda *_: None)

    path = input_drift_page(PRODUCT, platform.environment, DAY)
    page = path.read_text(encoding="utf-8")
    found = verdicts(page)
    told = {finding.drift.name: "Detected" if finding.is_drifted else "Not Detected" for finding in judged.findings}
    assert found["carrier_code"] == "Detected"
    assert found == {name: told[name] for name in found}
    assert len(found) > len(told) / 2
    assert HOSTILE.replace("<", "&lt;") in page
    assert HOSTILE not in page
    assert not re.search(r"<(script|img|iframe)[^>]*\ssrc=|<link|@import|url\(.?http", page.partition("<body>")[0])
    assert list(path.parent.iterdir()) == [path]

    records = instance.fetch_observations(input_drift_key(PRODUCT), limit=1).records
    link = records[0].asset_observation
    assert link is not None
    assert link.partition == DAY.isoformat()
    assert Path(str(link.metadata["page"].value)) == path.resolve()


def test_without_rows_there_is_no_page_and_the_error_says_so(built_platform: Platform, tmp_path: Path) -> None:
    product = built_platform.project.products[PRODUCT]
    early = product.model_copy(update={"monitoring": Monitoring(input_drift=InputDrift(window_days=1))})
    with pytest.raises(NothingToDrawError, match="nothing to draw for the window up to 2013-02-20"):
        list(write_input_drift_pages(early, built_platform, [date(2013, 2, 20)]))
    assert not (built_platform.environment.state / "reports").exists()


def drawn(expected: pl.DataFrame, seen: pl.DataFrame, limits: InputDrift) -> DriftPage:
    days = [frame.with_columns(event_day=pl.lit(DAY)) for frame in (expected, seen)]
    [judged] = Expectation(days[0], limits, timedelta(0)).held_against(days[1], [DAY])
    return draw_drift("A title <1>", "What was found.", expected, seen, judged)


def test_columns_without_values_are_named_and_steady_ones_are_drawn() -> None:
    rows = pl.DataFrame({"steady": [1.0] * 50, "moved": [*range(50)], "gone": [1.0] * 50, "text": ["a", "b"] * 25})
    seen = rows.with_columns(moved=pl.col("moved") + 40, gone=pl.lit(None, pl.Float64))
    page = drawn(rows, seen, InputDrift(window_days=1, minimum_rows=1))
    assert page.not_drawn == ("gone",)
    assert "What was found. Without values to draw: gone.</p>" in page.html
    assert "<title>A title &lt;1&gt;</title>" in page.html
    assert verdicts(page.html) == {"steady": "Not Detected", "moved": "Detected", "text": "Not Detected"}


def test_of_many_texts_the_frequent_ones_are_drawn() -> None:
    rows = pl.DataFrame({"plane": [f"N{n:03}" for n in range(200)] + ["often"] * 50})
    page = drawn(rows, rows, InputDrift(window_days=1, minimum_rows=1)).html
    assert "often" in page
    assert "N000" in page
    assert "N199" not in page
    assert "all other values" in page


def test_a_sample_is_bounded_in_order_and_the_same_each_time() -> None:
    rows = pl.DataFrame({"number": range(1_000)})
    found = sample(rows, 100)
    assert len(found) == 100
    assert found["number"].is_sorted()
    assert found.equals(sample(rows, 100))
    assert sample(rows, 5_000).equals(rows)

"""What is told of days that have passed."""

from dataclasses import replace
from datetime import date

import pytest

from mlway_assets.advance import DayDone, Mark, Trained
from mlway_assets.advance_report import new_lines, print_report, report_json
from mlway_assets.endpoint_load import Answers

DRIFT = Mark("input_drift of monitoring/shop/input_drift", "Of 9 columns 4 have drifted.")
WORSE = Mark("quality of monitoring/shop/quality", "log_loss: 25% worse.")
REFUSED = Trained(
    "shop",
    ("schedule: 7 days",),
    None,
    is_champion=False,
    problem="train failed.\ngate_champion: Not met: margin: -1",
    is_refused=True,
)
CRASHED = replace(REFUSED, problem="train failed.\nshop/candidate: No space left on device\nHint: no", is_refused=False)
PROMOTED = Trained("shop", ("quality: past its limits",), 2, is_champion=True, problem=None)


def passed(day: int, *marks: Mark, trained: tuple[Trained, ...] = (), failure: str | None = None) -> DayDone:
    return DayDone(date(2013, 10, day), failure, marks, trained, (), ())


def test_a_check_is_told_when_it_begins_to_warn_and_when_it_ends() -> None:
    days = [passed(1, DRIFT), passed(2, DRIFT, WORSE), passed(3, WORSE), passed(4)]
    told = [new_lines(day, before) for day, before in zip(days, [None, *days], strict=False)]
    assert told == [
        [f"2013-10-01 {DRIFT}"],
        [f"2013-10-02 {WORSE}"],
        [f"2013-10-03 {DRIFT.check}: no more"],
        [f"2013-10-04 {WORSE.check}: no more"],
    ]


def test_of_a_day_that_failed_nobody_knows_that_a_warning_is_over() -> None:
    assert new_lines(passed(2, failure="no file"), passed(1, DRIFT)) == ["2013-10-02 failed: no file"]


def test_failures_and_trainings_are_always_told() -> None:
    day = passed(7, failure="no file", trained=(REFUSED, PROMOTED, CRASHED))
    assert new_lines(day, passed(6)) == [
        "2013-10-07 failed: no file",
        "2013-10-07 shop: schedule: 7 days: refused",
        "2013-10-07 shop: quality: past its limits: version 2 promoted",
        "2013-10-07 shop: schedule: 7 days: failed",
    ]
    assert [each.has_failed for each in day.trained] == [False, False, True]


def test_the_tables_say_why_what_came_of_it_and_how_long_checks_warned(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    done = [passed(1, DRIFT), passed(2, DRIFT, DRIFT, WORSE), passed(7, trained=(REFUSED, PROMOTED, CRASHED))]
    print_report(done, {"shop": Answers({"1": 5, "2": 1}, ["503: busy"], 0.25)})
    printed = capsys.readouterr().out
    for told in (
        "margin: -1",
        "shop/candidate: No space left on device",
        "version 2 promoted",
        "6 requests answered (version 1: 5, version 2: 1), 1 failed",
    ):
        assert told in printed
    [drift] = [line for line in printed.splitlines() if "input_drift" in line]
    assert [cell.strip() for cell in drift.split("│")[2:5]] == ["2", "2013-10-01", "2013-10-02"]


def test_the_object_has_every_mark_of_every_day() -> None:
    found = report_json([passed(1, DRIFT), passed(2, DRIFT)], {})
    assert [day["marks"] for day in found["days"]] == [[str(DRIFT)], [str(DRIFT)]]

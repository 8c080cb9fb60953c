"""What passed days have brought, to be read: a line for what is new, tables at the end, or one JSON object."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from rich.markup import escape
from rich.table import Table

from mlway_assets.advance import DayDone, Trained
from mlway_assets.endpoint_load import Answers
from mlway_assets.terminal import console


def new_lines(day: DayDone, before: DayDone | None) -> list[str]:
    """What a day brought that the one before it had not: a check that still warns is not told again.

    `before` is the last day that did not fail: of one that did nobody knows what its checks would have said.
    """
    failed = [f"{day.day} failed: {day.failure}"] if day.failure else []
    known, now = (set() if each is None else {mark.check for mark in each.marks} for each in (before, day))
    trained = [f"{day.day} {each.product}: {', '.join(each.reasons)}: {_outcome(each)}" for each in day.trained]
    new = [f"{day.day} {mark}" for mark in day.marks if mark.check not in known]
    over = [f"{day.day} {check}: no more" for check in sorted(known - now) if not day.failure]
    return [*failed, *new, *over, *trained]


def _outcome(trained: Trained) -> str:
    if trained.has_failed:
        return "failed"
    if trained.version is None:
        return "refused"
    return f"version {trained.version} " + ("promoted" if trained.is_champion else "registered")


def _why_not(trained: Trained) -> str:
    """What was not met, or what the training has failed of, in a line."""
    problem = (trained.problem or "").splitlines()
    not_met = [line.partition("Not met: ")[2] for line in problem if "Not met: " in line]
    # The first line says no more than that it has failed.
    return "; ".join(not_met) or next(iter(problem[1:2] or problem), "")


def print_report(done: Sequence[DayDone], answers: Mapping[str, Answers]) -> None:
    """Tables of trainings and of what checks warned of, and how endpoints answered."""
    table = Table("day", "product", "why", "outcome", "what was not met, or failed", title="Trainings")
    for day in done:
        for each in day.trained:
            told = (", ".join(each.reasons), _outcome(each), _why_not(each))
            table.add_row(str(day.day), each.product, *(escape(cell) for cell in told))
    console.print(table)
    _print_marks(done)
    held_back = sum(len(day.held_back) for day in done)
    failed = [day for day in done if day.failure]
    console.print(
        f"{len(done)} days passed; {len(failed)} had a failure, {held_back} times a trigger was held back.",
        highlight=False,
    )
    for name, found in answers.items():
        by_version = ", ".join(f"version {version}: {count:,}" for version, count in found.by_version.items())
        console.print(
            f"{name}: {found.answered:,} requests answered ({by_version}), {len(found.failed)} failed, the longest "
            f"took {found.longest_seconds:.2f} s",
            highlight=False,
        )
        for problem in found.failed[:3]:
            console.print("  " + escape(problem), highlight=False, soft_wrap=True)


def _print_marks(done: Sequence[DayDone]) -> None:
    days: dict[str, set[date]] = {}
    for day in done:
        for mark in day.marks:
            days.setdefault(mark.check, set()).add(day.day)
    if not days:
        return
    table = Table("check", "days", "first", "last", title="Checks that warned")
    for check, warned in sorted(days.items(), key=lambda found: (-len(found[1]), found[0])):
        table.add_row(check, str(len(warned)), str(min(warned)), str(max(warned)))
    console.print(table)


def report_json(done: Sequence[DayDone], answers: Mapping[str, Answers]) -> dict[str, Any]:
    """The same, and each day, as one object."""
    return {
        "days": [
            {
                "day": day.day.isoformat(),
                "failure": day.failure,
                "marks": [str(mark) for mark in day.marks],
                "held_back": day.held_back,
                "rolled_out": day.rolled_out,
                "trained": [
                    {
                        "product": each.product,
                        "reasons": each.reasons,
                        "version": each.version,
                        "is_champion": each.is_champion,
                        "is_refused": each.is_refused,
                        "problem": each.problem,
                    }
                    for each in day.trained
                ],
            }
            for day in done
        ],
        "endpoints": {
            name: {
                "answered": found.answered,
                "by_version": found.by_version,
                "failed": found.failed[:20],
                "failures": len(found.failed),
                "longest_seconds": found.longest_seconds,
            }
            for name, found in answers.items()
        },
    }

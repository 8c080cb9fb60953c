"""The picture and the page of a backtest."""

import base64
import html
import io
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from mlway_assets.compute.backtest import Replay
from mlway_assets.compute.backtest_summary import Outcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SMOOTHED_DAYS = 14


def chart(metric: str, outcomes: Sequence[Outcome], replays: Sequence[Replay]) -> "Figure":
    """The metric over time, the trainings of each policy, what each gains on `never`, and what that takes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 10), layout="constrained")
    # Quality, trainings and gains over the whole width; then seconds, false alarms and days of detection.
    axes = figure.subplot_mosaic("QQQ;TTT;GGG;SFD", height_ratios=[4, 1.2, 1.6, 1.4])
    quality, trainings = axes["Q"], axes["T"]
    for number, outcome in enumerate(outcomes):
        days, values = list(outcome.by_day), np.asarray(list(outcome.by_day.values()))
        weights = np.ones(min(_SMOOTHED_DAYS, len(values)))
        smooth = np.convolve(values, weights / len(weights), mode="valid")
        quality.plot(
            np.array(days[len(weights) - 1 :], "datetime64[D]"), smooth, color=f"C{number}", label=outcome.policy
        )
    for shift in outcomes[0].shifts:
        # Matplotlib counts days from then on.
        quality.axvline((shift - date(1970, 1, 1)).days, color="grey", linestyle=":", linewidth=1)
    quality.set_ylabel(f"{metric}, mean of {_SMOOTHED_DAYS} days")
    quality.legend(ncols=len(outcomes), title="dotted: a real shift begins", title_fontsize="small")
    _draw_trainings(trainings, replays)
    trainings.set_xlim(quality.get_xlim())
    _draw_gains(axes["G"], metric, outcomes)
    _draw_costs([axes["S"], axes["F"], axes["D"]], outcomes)
    return figure


def _draw_trainings(axes: "Axes", replays: Sequence[Replay]) -> None:
    for number, replay in enumerate(replays):
        for is_promoted, marker in ((True, "^"), (False, "x")):
            days = [each.day for each in replay.trainings if each.is_promoted == is_promoted]
            axes.scatter(
                np.array(days, "datetime64[D]"),
                [-number] * len(days),
                marker=marker,
                color=f"C{number}",
                s=30,
                clip_on=False,
            )
    axes.set_yticks([-number for number in range(len(replays))], [replay.policy for replay in replays])
    axes.set_ylim(0.5 - len(replays), 0.5)
    axes.set_title("Trainings: triangles were promoted, crosses refused", fontsize="small", loc="left")


def _draw_gains(axes: "Axes", metric: str, outcomes: Sequence[Outcome]) -> None:
    for number, outcome in enumerate(outcomes):
        better = outcome.better
        axes.plot([better.low, better.high], [-number, -number], color=f"C{number}", linewidth=3)
        axes.plot([better.mean], [-number], "o", color=f"C{number}")
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks([-number for number in range(len(outcomes))], [outcome.policy for outcome in outcomes])
    axes.set_ylim(0.5 - len(outcomes), 0.5)
    interval = f"{outcomes[0].better.interval_confidence:.0%} interval"
    axes.set_xlabel(f"{metric} better than never trained again (lines: {interval}; right is better)")


def _draw_costs(axes: "Sequence[Axes]", outcomes: Sequence[Outcome]) -> None:
    """A bar for each policy: seconds of training, alarms that no shift explains, days until the real ones were told."""
    places = [-number for number in range(len(outcomes))]
    seconds = [(outcome.seconds, f"{outcome.seconds:,.0f}") for outcome in outcomes]
    false = [(float(outcome.false_alarms), f"{outcome.false_alarms} of {outcome.alarms}") for outcome in outcomes]
    found = [(_slowest(outcome), _told_detection(outcome)) for outcome in outcomes]
    titles = ("Seconds of training", "False alarms", "Days from a real shift to the alarm")
    for ax, title, bars in zip(axes, titles, (seconds, false, found), strict=True):
        drawn = ax.barh(places, [value for value, _ in bars], color=[f"C{number}" for number in range(len(bars))])
        ax.bar_label(drawn, [told for _, told in bars], padding=3, fontsize="small")
        ax.set_title(title, fontsize="small", loc="left")
        ax.margins(x=0.35)
        ax.set_yticks(places, [outcome.policy for outcome in outcomes])


def _slowest(outcome: Outcome) -> float:
    return float(max((days for days in outcome.detection_days.values() if days is not None), default=0))


def _told_detection(outcome: Outcome) -> str:
    if not outcome.shifts:
        return "no shift"
    days = ["not told" if each is None else str(each) for each in outcome.detection_days.values()]
    return ", ".join(days) or "watches nothing"


def page(
    title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], figure: "Figure", replays: Sequence[Replay]
) -> str:
    """One HTML file with everything in it."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    image = base64.b64encode(picture.getvalue()).decode("ascii")
    opened = [
        (
            replay.policy,
            str(each.day),
            ", ".join(each.reasons),
            "promoted" if each.is_promoted else "refused",
            "; ".join(f"{rule.name}: {rule.seen:.4f}, not {rule.bound} {rule.limit:.4f}" for rule in each.broken),
        )
        for replay in replays
        for each in replay.trainings
    ]
    trainings = _table(("policy", "day", "why", "outcome", "not met"), opened)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
        "<style>body{font:15px sans-serif;margin:2em auto;max-width:1100px}table{border-collapse:collapse;margin:1em 0}"
        "td,th{border:1px solid #ccc;padding:.3em .6em;text-align:left}img{max-width:100%}</style>"
        f"<h1>{html.escape(title)}</h1><img alt='' src='data:image/png;base64,{image}'>"
        f"{_table(heads, rows)}<h2>Trainings</h2>{trainings}</html>"
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{html.escape(head)}</th>" for head in heads)
    lines = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{lines}</table>"

"""An explained decision for people and for programs. What is in it: decision_explanation.py."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.markup import escape
from rich.table import Table

from mlway_assets.decision_explanation import ExplainedFeature, ExplainedRow, Explanation

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AGREES = {True: "[green]same[/green]", False: "[red]differs[/red]", None: ""}


def explanation_parts(explanation: Explanation) -> Iterator[str | Table]:
    """Texts and tables, in order. Of several rows only the scores; of one row every feature too."""
    yield _head(explanation)
    if explanation.log_problem:
        yield f"[yellow]log:[/yellow] {escape(explanation.log_problem)}"
    if explanation.lake_problem:
        yield f"[yellow]lake:[/yellow] {escape(explanation.lake_problem)}"
    if len(explanation.rows) == 1:
        yield from _row_parts(explanation.rows[0])
    else:
        yield _score_table(explanation)
        identity = explanation.found.record.decision.id
        yield f"Every feature of one row: mlway explain-decision {identity}.{explanation.rows[0].row}"


def explanation_json(explanation: Explanation) -> dict[str, Any]:
    """One object; a number that JSON does not know is null."""
    record = explanation.found.record
    decision = record.decision
    told = {
        "id": decision.id,
        "product": decision.product,
        "model": decision.model,
        "digest": decision.digest,
        "variant": decision.variant,
        "caller": decision.caller,
        "at": _moment(decision.at),
        "answered_at": _moment(decision.answered_at),
        "latency_microseconds": decision.latency_microseconds,
        "cache_hits": decision.cache_hits,
        "degraded": decision.degraded,
        "found_in": explanation.found.place,
        "hidden": {"fields": record.hidden_fields, "features": record.hidden_features},
        "is_equal": explanation.is_equal,
        "log_problem": explanation.log_problem,
        "lake_problem": explanation.lake_problem,
        "rows": [_row_json(explanation, row) for row in explanation.rows],
    }
    plain: dict[str, Any] = _plain(told)
    return plain


def _row_json(explanation: Explanation, row: ExplainedRow) -> dict[str, Any]:
    decision = explanation.found.record.decision
    hashes = explanation.found.record.hashes
    return {
        **{name: value for name, value in row.__dict__.items() if name != "features"},
        "missing": decision.missing[row.row],
        "ages": {view: ages[row.row] for view, ages in decision.ages.items()},
        "hashes": hashes[row.row] if hashes else None,
        "features": {feature.name: _feature_json(feature) for feature in row.features},
    }


def _feature_json(feature: ExplainedFeature) -> dict[str, Any]:
    return {name: value for name, value in feature.__dict__.items() if name != "name"}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _head(explanation: Explanation) -> str:
    decision = explanation.found.record.decision
    version = f" version {decision.model['version']}" if "version" in decision.model else ""
    digest = f", digest {decision.digest[:12]}" if decision.digest else ""
    lines = [
        f"decision    {decision.id}, {len(decision.requests)} rows, found in {explanation.found.place}",
        f"answered    {_moment(decision.answered_at)}, with features as of {_moment(decision.at)}",
        f"model       {decision.model['name']}{version}{digest}, variant {decision.variant}",
        f"caller      {decision.caller}, {decision.latency_microseconds:,} us, {decision.cache_hits} from the cache",
    ]
    if decision.degraded:
        lines.append(f"degraded    {', '.join(decision.degraded)}")
    return escape("\n".join(lines))


def _row_parts(row: ExplainedRow) -> Iterator[str | Table]:
    yield escape("request     " + ", ".join(f"{name}={_shown(value)}" for name, value in row.request.items()))
    if row.features:
        yield _feature_table(row)
    yield "\n".join(_verdicts(row))


def _verdicts(row: ExplainedRow) -> Iterator[str]:
    yield f"score, as logged       {escape(str(row.logged))}"
    if row.from_log is not None:
        yield f"again, from the log    {row.from_log!r}  {_verdict(row.is_equal)}"
    if row.from_lake is not None:
        yield f"again, from the lake   {row.from_lake!r}  {_verdict(row.is_equal_in_lake)}"
        differing = [feature.name for feature in row.features if feature.agrees is False]
        if differing:
            yield f"features that differ   {escape(', '.join(differing))}"
    if row.contribution_sum is not None and row.expected is not None:
        yield f"contributions          sum {row.contribution_sum:.6f}, of which {row.expected:.6f} before any feature"


def _verdict(is_equal: bool | None) -> str:
    return {True: "[green]equal, bit for bit[/green]", False: "[red]another score[/red]", None: ""}[is_equal]


def _feature_table(row: ExplainedRow) -> Table:
    table = Table("feature", "as logged", "in the lake", "", "contribution", title=f"Row {row.row}")
    for feature in sorted(row.features, key=lambda found: -abs(found.contribution or 0)):
        contribution = "" if feature.contribution is None else f"{feature.contribution:+.5f}"
        logged = "hidden" if feature.logged is None else _number(feature.logged)
        lake = "" if feature.in_lake is None else _number(feature.in_lake)
        table.add_row(feature.name, logged, lake, _AGREES[feature.agrees], contribution)
    return table


def _score_table(explanation: Explanation) -> Table:
    table = Table("row", "as logged", "from the log", "", "from the lake", "", "features that differ", title="Scores")
    for row in explanation.rows:
        differing = sum(feature.agrees is False for feature in row.features)
        again = "" if row.from_log is None else repr(row.from_log)
        lake = "" if row.from_lake is None else repr(row.from_lake)
        cells = [again, _AGREES[row.is_equal], lake, _AGREES[row.is_equal_in_lake], str(differing)]
        table.add_row(str(row.row), escape(str(row.logged)), *cells)
    return table


def _number(value: float) -> str:
    return "missing" if math.isnan(value) else f"{value:.10g}"


def _shown(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _moment(microseconds: int) -> str:
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat()

"""The model card as one page of HTML that needs nothing else."""

from collections.abc import Mapping, Sequence

from mlway_assets.compute.card import Approval, ModelCard, PartFacts
from mlway_assets.compute.page_elements import (
    NUMBER,
    RAW,
    STYLE,
    TEXT,
    bar,
    bullets,
    details,
    escaped,
    image,
    interval,
    moment,
    number,
    section,
    share,
    table,
)

_MAIN_PICTURE = "contributions.png"
_MOST_FEATURES = 12
_TITLES = {
    "Roc": "ROC",
    "Calibration": "Calibration: the rate of positives beside the score",
    "Importance": "Importance: what the trees gain by each feature",
}


def card_page(card: ModelCard, pictures: Mapping[str, bytes]) -> str:
    """The page. `pictures` are PNG files by name."""
    parts = [
        _head(card),
        _tiles(card),
        _use(card),
        _metrics(card),
        _slices(card),
        _contributions(card, pictures.get(_MAIN_PICTURE)),
        _gate(card),
        _pictures({name: content for name, content in pictures.items() if name != _MAIN_PICTURE}),
        _data(card),
        _approvals(card.approvals),
    ]
    title = f"{card.product}, version {card.version}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escaped(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head>\n<body><main>\n" + "\n".join(filter(None, parts)) + "\n</main></body></html>\n"
    )


def _head(card: ModelCard) -> str:
    return (
        f"<header><h1>{escaped(card.product)} <small>version {card.version}</small></h1>"
        f"<p>{escaped(card.description)}</p>"
        f'<p class="note">Owner {escaped(card.owner)} · {escaped(card.task)} · {escaped(card.algorithm)} · '
        f"registered {moment(card.registered_at)}</p></header>"
    )


def _tiles(card: ModelCard) -> str:
    main = next((each for each in card.metrics if each.metric == card.gate_metric), None)
    tiles = [(f"{card.gate_metric} on test", number(main.test if main else None))]
    tiles += [(f"{part.part} rows", f"{part.rows:,}") for part in card.data.parts]
    met = sum(rule.is_met for rule in card.gate)
    tiles += [("rules of the gate met", f"{met} of {len(card.gate)}")]
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile"><b>{escaped(value)}</b><span>{escaped(name)}</span></div>' for name, value in tiles
        )
        + "</div>"
    )


def _use(card: ModelCard) -> str:
    use = card.use
    body = f"<p>{escaped(use.intended_use or 'Nothing is declared: see `card` in the product file.')}</p>"
    for title, lines in (("Not for", use.out_of_scope), ("Known limits", use.limitations)):
        body += f"<h3>{title}</h3>{bullets(lines)}" if lines else ""
    return section("Intended use", body)


def _metrics(card: ModelCard) -> str:
    rows = [
        (
            each.metric,
            number(each.validation),
            interval(each.validation_interval),
            number(each.test),
            interval(each.test_interval),
        )
        for each in card.metrics
    ]
    width = f"{card.interval_confidence:.0%} interval"
    columns = {"metric": TEXT, "validation": NUMBER, width: NUMBER, "test": NUMBER, f"{width} ": NUMBER}
    note = "Intervals: whole days drawn again and again, since rows of one day share its weather."
    return section("Metrics", table(columns, rows) + f'<p class="note">{note}</p>')


def _slices(card: ModelCard) -> str:
    if not card.slices:
        return ""
    metrics = [name for name in card.slices[0].metrics if name != "rows"][:6]
    body = ""
    for column in dict.fromkeys(each.column for each in card.slices):
        rows = [
            (each.value, f"{each.rows:,}", *(number(each.metrics.get(name)) for name in metrics))
            for each in card.slices
            if each.column == column
        ]
        body += f"<h3>By {escaped(column)}</h3>"
        body += table({column: TEXT, "rows": NUMBER, **dict.fromkeys(metrics, NUMBER)}, rows)
    words = {
        "gap": f"{card.gate_metric} of the worst group behind the groups' mean",
        "opportunity": "the share of positives that is found",
    }
    unlike = [(each.column, words[each.what], each.between, number(each.seen)) for each in card.fairness]
    if unlike:
        columns = {"groups": TEXT, "difference in": TEXT, "which": TEXT, "by": NUMBER}
        body += "<h3>How unlike groups are served</h3>" + table(columns, unlike)
    note = f"On the test part; values with fewer than {card.use.minimum_rows} rows are left out."
    return section("Slices", body + f'<p class="note">{note}</p>')


def _contributions(card: ModelCard, picture: bytes | None) -> str:
    found = card.contributions
    if found is None:
        return ""
    most = max((each.share for each in found.features), default=0) or 1
    shown = found.features[:_MOST_FEATURES]
    rows: list[tuple[str, ...]] = [(each.feature, f"{each.share:.1%}", bar(each.share / most)) for each in shown]
    columns = {"feature": TEXT, "share": NUMBER, "": RAW}
    if found.champion is not None:
        columns |= {f"in version {found.champion}": NUMBER}
        rows = [(*row, share(each.champion_share)) for row, each in zip(rows, shown, strict=True)]
    moved = (
        "There was no champion to hold it against."
        if found.moved_share is None
        else f"Against version {found.champion}, on the same rows: {found.moved_share:.1%} of the importance lies with "
        f"other features, rank correlation {number(found.rank_correlation)}."
    )
    note = f"Mean absolute SHAP values of {found.rows:,} of the judged rows. {moved}"
    drawn = "" if picture is None else image(picture, "Contributions of the features, a dot for each row")
    return section("What scores are made of", f'<p class="note">{escaped(note)}</p>{drawn}{table(columns, rows)}')


def _gate(card: ModelCard) -> str:
    rows = [
        (
            each.subject,
            each.name,
            number(each.seen),
            f"{each.bound} {number(each.limit)}",
            '<span class="yes">met</span>' if each.is_met else '<span class="no">not met</span>',
        )
        for each in card.gate
    ]
    columns = {"about": TEXT, "rule": TEXT, "seen": NUMBER, "expected": NUMBER, "": RAW}
    return section("The gate", table(columns, rows))


def _pictures(pictures: Mapping[str, bytes]) -> str:
    if not pictures:
        return ""
    titles = {name: name.removesuffix(".png").replace("_", " ").capitalize() for name in sorted(pictures)}
    images = "".join(image(pictures[name], _TITLES.get(title, title)) for name, title in titles.items())
    return section("On the test part", f'<div class="pictures">{images}</div>')


def _data(card: ModelCard) -> str:
    data = card.data
    parts = [_part(each) for each in data.parts]
    columns = {"part": TEXT, "rows": NUMBER, "first event": TEXT, "last event": TEXT, "used for": TEXT}
    facts = {
        "training set": f"version {data.training_set}, {data.rows:,} rows",
        "its SHA-256": data.sha256,
        "label": data.label,
        "features as of": f"{data.horizon} before the event",
        "feature definitions": data.feature_definitions,
        "trained because": card.reason or "not recorded",
        "code": data.git_commit,
        "model files": card.digest,
        "MLflow run": card.run_id,
    }
    pairs = [(name, f"<code>{escaped(value)}</code>") for name, value in facts.items()]
    body = table(columns, parts) + "<h3>Where it comes from</h3>" + table({"": TEXT, " ": RAW}, pairs)
    inputs = [(name, str(version)) for name, version in data.inputs.items()]
    body += details("Versions of the tables", table({"table": TEXT, "version": NUMBER}, inputs))
    body += details("Parameters", table({"parameter": TEXT, "value": TEXT}, list(card.parameters.items())))
    features = ", ".join(data.features)
    return section("Data", body + details(f"{len(data.features)} features", f"<p><code>{escaped(features)}</code>"))


def _approvals(approvals: Sequence[Approval]) -> str:
    if not approvals:
        return section("Approvals", "<p>Nobody has made this version champion.</p>")
    rows = [
        (moment(each.at) if each.at else "not recorded", each.by or "not recorded", each.note or "")
        for each in approvals
    ]
    return section("Approvals", table({"made champion": TEXT, "by": TEXT, "note": TEXT}, rows))


def _part(part: PartFacts) -> tuple[str, ...]:
    use = {"train": "learning", "validate": "stopping early", "test": "the report"}[part.part]
    span = (moment(each) if each else "" for each in (part.first, part.last))
    return (part.part, f"{part.rows:,}", *span, f"{use}, the gate" if part.is_judged else use)

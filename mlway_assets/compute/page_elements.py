"""Elements of a page of HTML that needs nothing else: no script, no address. Every text is escaped."""

import base64
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

NUMBER, TEXT, RAW = "n", "", "raw"
"""Kinds of a table's columns. RAW holds HTML."""
STYLE = """
:root{color-scheme:light}*{box-sizing:border-box}
body{font:15px/1.5 system-ui,'Segoe UI',Helvetica,Arial,sans-serif;color:#1d2733;background:#f3f5f8;margin:0}
main{max-width:1040px;margin:0 auto;padding:2rem 1.25rem 4rem}
header{border-left:5px solid #1e76d2;padding-left:1rem;margin-bottom:1.5rem}
h1{font-size:1.7rem;margin:0}h1 small{font-weight:400;color:#5b6b7d}
header p{margin:.3rem 0 0;color:#41505f;max-width:48rem}
section{background:#fff;border:1px solid #dde3ea;border-radius:8px;padding:1.1rem 1.4rem 1.3rem;margin:0 0 1.1rem}
h2{font-size:1.12rem;margin:0 0 .6rem}h3{font-size:.98rem;margin:1.1rem 0 .3rem}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th{text-align:left;font-weight:600;color:#5b6b7d;border-bottom:2px solid #dde3ea;padding:.3rem .6rem .3rem 0}
td{border-bottom:1px solid #edf0f4;padding:.3rem .6rem .3rem 0;vertical-align:top;overflow-wrap:anywhere}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:.8rem;margin-bottom:1.1rem}
.tile{background:#fff;border:1px solid #dde3ea;border-radius:8px;padding:.8rem 1rem}
.tile b{display:block;font-size:1.45rem;font-variant-numeric:tabular-nums}.tile span{color:#5b6b7d;font-size:.85rem}
.bar{background:#e4edf8;height:.8rem;border-radius:3px;min-width:12rem}
.bar i{display:block;height:100%;background:#1e76d2;border-radius:3px}
.yes{color:#17733a;font-weight:600}.no{color:#b3261e;font-weight:600}
.note{color:#5b6b7d;font-size:.86rem;margin:.4rem 0 0}
code{font:.84em ui-monospace,Menlo,Consolas,monospace;overflow-wrap:anywhere}
ul{margin:.2rem 0;padding-left:1.2rem}figure{margin:0}figcaption{color:#5b6b7d;font-size:.86rem}
.pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:1rem}img{max-width:100%;height:auto}
details{margin-top:.6rem}summary{cursor:pointer;color:#1e62ad}
@media print{body{background:#fff}section,.tile{break-inside:avoid}}
"""


def table(columns: Mapping[str, str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are escaped, but for those of the columns that hold HTML of this module."""
    kinds = list(columns.values())
    head = "".join(f'<th class="{kind}">{escaped(name)}</th>' for name, kind in columns.items())
    lines = [
        "".join(
            f'<td class="{kind}">{cell if kind == RAW else escaped(cell)}</td>'
            for kind, cell in zip(kinds, row, strict=True)
        )
        for row in rows
    ]
    return (
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(f'<tr>{line}</tr>' for line in lines)}</tbody></table>"
    )


def section(title: str, body: str) -> str:
    """A part of the page."""
    return f"<section><h2>{escaped(title)}</h2>{body}</section>"


def details(title: str, body: str) -> str:
    """What is shown when asked for."""
    return f"<details><summary>{escaped(title)}</summary>{body}</details>"


def bullets(lines: Iterable[str]) -> str:
    """A list."""
    return "<ul>" + "".join(f"<li>{escaped(line)}</li>" for line in lines) + "</ul>"


def image(content: bytes, title: str) -> str:
    """A PNG file, inside the page."""
    data = base64.b64encode(content).decode("ascii")
    return (
        f'<figure><img alt="{escaped(title)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escaped(title)}</figcaption></figure>"
    )


def bar(share: float) -> str:
    """A share as a length."""
    return f'<div class="bar"><i style="width:{share:.1%}"></i></div>'


def interval(ends: tuple[float, float] | None) -> str:
    """Nothing where there is none."""
    return "" if ends is None else f"{number(ends[0])} to {number(ends[1])}"


def share(value: float | None) -> str:
    """Nothing where there is none."""
    return "" if value is None else f"{value:.1%}"


def number(value: float | None) -> str:
    """Whole numbers as they are, others with four places."""
    if value is None or not math.isfinite(value):
        return "none"
    return f"{value:,.0f}" if value == int(value) and abs(value) >= 2 else f"{value:,.4f}"


def moment(at: datetime) -> str:
    """To the minute."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def escaped(text: str) -> str:
    """Text that HTML takes as text, in attributes too."""
    return html.escape(text, quote=True)

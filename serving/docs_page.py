"""The OpenAPI document as a page: plain HTML that loads nothing, runs nothing, and works without a network."""

from collections.abc import Mapping
from html import escape
from typing import Any

import orjson

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #d0d7de; }
summary { cursor: pointer; padding: .35rem 0; }
code, pre { font: 14px/1.45 ui-monospace, monospace; }
pre { background: #f6f8fa; padding: .75rem; overflow-x: auto; }
b { display: inline-block; width: 3.5rem; }
td { padding: .1rem 1rem .1rem 0; vertical-align: top; }
@media (prefers-color-scheme: dark) {
  body { background: #0d1117; color: #e6edf3; } pre { background: #161b22; } a { color: #79c0ff; }
}
"""


def docs_page(document: Mapping[str, Any]) -> str:
    """The page: every operation by product, with its body, an example and its statuses."""
    info = document["info"]
    by_tag: dict[str, list[str]] = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                section = _operation(document, method, path, operation)
                by_tag.setdefault(operation["tags"][0], []).append(section)
    sections = "".join(f"<h2>{escape(tag)}</h2>{''.join(parts)}" for tag, parts in by_tag.items())
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>'
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info['description'])} "
        f'For programs: <a href="/openapi.json">openapi.json</a>.</p>{sections}</body></html>'
    )


def _operation(document: Mapping[str, Any], method: str, path: str, operation: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(status)}</td><td>{escape(_resolved(document, answer)['description'])}</td></tr>"
        for status, answer in sorted(operation["responses"].items())
    )
    return (
        f"<details><summary><b>{method.upper()}</b><code>{escape(path)}</code> &ndash; {escape(operation['summary'])}"
        f"</summary>{_body(document, operation)}<table>{rows}</table></details>"
    )


def _body(document: Mapping[str, Any], operation: Mapping[str, Any]) -> str:
    if "requestBody" not in operation:
        return ""
    schema = _resolved(document, operation["requestBody"]["content"]["application/json"]["schema"])
    parts = [f"<p>{escape(schema['description'])}</p>"] if "description" in schema else []
    parts += [f"<p>For example</p>{_code(_example(document, schema))}"]
    parts += [f"<details><summary>Schema</summary>{_code(_expanded(document, schema))}</details>"]
    return "".join(parts)


def _example(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Any:
    """A schema's own example, or one made of its parts'."""
    schema = _resolved(document, schema)
    if "example" in schema:
        return schema["example"]
    if schema.get("type") == "array":
        return [_example(document, schema["items"])]
    return {name: _example(document, part) for name, part in schema.get("properties", {}).items()}


def _expanded(document: Mapping[str, Any], schema: Any) -> Any:
    """A schema with what it refers to in place; no schema here refers to itself."""
    if isinstance(schema, list):
        return [_expanded(document, part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = _resolved(document, schema)
    return {name: _expanded(document, part) for name, part in found.items() if name != "example"}


def _resolved(document: Mapping[str, Any], part: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in part:
        return part
    found: Any = document
    for name in part["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return dict(found)


def _code(content: Any) -> str:
    return f"<pre>{escape(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode())}</pre>"

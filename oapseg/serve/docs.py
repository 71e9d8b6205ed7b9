"""The list of routes for people, from the OpenAPI description, as one page that needs no other."""

from html import escape
from typing import Any


def docs_page(description: dict[str, Any]) -> str:
    """A table a route: what it is for, what it takes, what it answers."""
    routes = [
        _route(method, path, operation)
        for path, operations in description["paths"].items()
        for method, operation in operations.items()
    ]
    title = escape(f"{description['info']['title']} {description['info']['version']}")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{title}: routes</title><link rel="stylesheet" href="page/page.css"></head><body><main class="docs">'
        f'<h1>{title}</h1><p>The same for programs: <a href="openapi.json">openapi.json</a>. '
        '<a href="./">Try it on a photo</a>.</p>' + "".join(routes) + "</main></body></html>\n"
    )


def _route(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = [_row(each["name"], _type(each["schema"]), each) for each in operation.get("parameters", [])]
    if body := operation.get("requestBody"):
        rows.insert(0, _row("body", ", ".join(body["content"]), body))
    told = {
        status: said for status, said in operation["responses"].items() if status != "200" and "content" not in said
    }
    rows += [_row(status, "", said) for status, said in sorted(told.items())]
    table = f"<table>{''.join(rows)}</table>" if rows else ""
    return (
        f"<section><h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(operation.get('summary', ''))}</p>"
        f"{table}</section>"
    )


def _row(name: str, kind: str, said: dict[str, Any]) -> str:
    text = said.get("description") or said.get("schema", {}).get("description", "")
    return f"<tr><th>{escape(name)}</th><td>{escape(kind)}</td><td>{escape(text)}</td></tr>"


def _type(schema: dict[str, Any]) -> str:
    """A type with its range, in words."""
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"] if each.get("type") != "null")
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    ends = [f"{word} {schema[key]:g}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema]
    return " ".join([schema.get("type", ""), *ends])

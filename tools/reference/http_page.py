"""The page of all routes of the gateway, from its OpenAPI document."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fastapi import FastAPI

from headrace_workers.core.scopes import Scope, all_scopes
from headrace_workers.http.errors import NATIVE, Why, is_native
from headrace_workers.wiring.gateway_app import ROUTERS, describe_api
from tools.reference.event_page import parts_of_events
from tools.reference.markdown_text import (
    anchor,
    beginning,
    code,
    json_block,
    link,
    paragraphs,
    table,
)
from tools.reference.schema_tables import fields, named_parts, object_section, type_of

_INTRODUCTION: Final = """\
A gateway serves these routes. `GET /openapi.json` returns the same as an OpenAPI document. Send an API key as
`Authorization: Bearer KEY`; `headrace keys create` makes one. Every response has an `x-request-id`, under which the
gateway's log has its line.
"""
_ERRORS: Final = f"""\
Errors of {", ".join(code(path) for path in NATIVE[:3])} and their like are
[RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) problems: `application/problem+json`, see {link("Problem")}.
Errors of all other paths have OpenAI's shape, see {link("OpenAIError")}. Both name one of these reasons, as the last
part of `type` or as `code`. Responses with status 429 and 503 have a `Retry-After` header.
"""
_SCOPES: Final = """\
A key has scopes. A scope that ends in `:write` includes the one that ends in `:read`. A key that names no scopes has
all but `metrics` and `operator`.
"""


def document() -> dict[str, Any]:
    """Return the OpenAPI document of a gateway."""
    app = FastAPI(title="headrace")
    for router in ROUTERS:
        app.include_router(router)
    describe_api(app, ROUTERS)
    return app.openapi()


def page() -> str:
    """Return the page of all routes, in Markdown."""
    api = document()
    operations = list(_operations(api))
    tags = list(dict.fromkeys(tag for _, _, operation in operations for tag in operation["tags"]))
    names = set(_shown(api))
    return paragraphs(
        beginning("HTTP", "the routes of the gateway", _INTRODUCTION),
        table(("resource", "routes"), ((link(_title(tag)), _routes(tag, operations)) for tag in tags)),
        "## Scopes",
        _SCOPES,
        table(("scope", "routes"), ((code(scope), _routes_of(scope, operations)) for scope in all_scopes())),
        "## Errors",
        _ERRORS,
        table(("status", "reason", "meaning"), ((str(why.status), code(why.code), why.title) for why in Why)),
        *(_resource(tag, operations) for tag in tags),
        "## Objects",
        *(
            object_section(f"### {name}", schema, _link_to)
            for name, schema in sorted(api["components"]["schemas"].items())
            if name in names
        ),
    )


def _operations(api: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield method, path and description of each operation."""
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _title(tag: str) -> str:
    return "OpenAI" if tag == "openai" else tag[0].upper() + tag[1:]


def heading(method: str, path: str) -> str:
    """Return the heading of a route."""
    return f"{method} {path}"


def _routes(tag: str, operations: list[tuple[str, str, dict[str, Any]]]) -> str:
    return ", ".join(link(heading(method, path)) for method, path, entry in operations if tag in entry["tags"])


def _scopes(operation: Mapping[str, Any]) -> list[str]:
    return [scope for scheme in operation.get("security", ()) for scopes in scheme.values() for scope in scopes]


def _routes_of(scope: Scope, operations: list[tuple[str, str, dict[str, Any]]]) -> str:
    return ", ".join(link(heading(method, path)) for method, path, entry in operations if scope in _scopes(entry))


def _resource(tag: str, operations: list[tuple[str, str, dict[str, Any]]]) -> str:
    return paragraphs(
        f"## {_title(tag)}", *(_operation(*operation) for operation in operations if tag in operation[2]["tags"])
    )


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    scopes = _scopes(operation)
    return paragraphs(
        f"### {heading(method, path)}",
        str(operation["description"]),
        f"Scope: {', '.join(map(code, scopes))}." if scopes else "No key is needed.",
        table(("parameter", "in", "type", "meaning"), map(_parameter, operation.get("parameters", ()))),
        _body(operation.get("requestBody", {})),
        table(
            ("status", "body", "meaning"),
            (_answer(path, status, answer) for status, answer in operation["responses"].items()),
        ),
    )


def _parameter(parameter: Mapping[str, Any]) -> tuple[str, str, str, str]:
    name = code(parameter["name"])
    schema = parameter["schema"]
    default = schema.get("default")
    text = str(parameter.get("description", ""))
    if default is not None:
        text += f" By default {code(str(default))}."
    kind = type_of(schema, _link_to) + (", required" if parameter["required"] and parameter["in"] != "path" else "")
    return name, parameter["in"], kind, text


def _body(body: Mapping[str, Any]) -> str:
    parts = []
    for media_type, content in body.get("content", {}).items():
        schema = content["schema"]
        inner = fields(schema, _link_to) if "properties" in schema else ""
        parts.append(f"Body: {code(media_type)}" + (":" if inner else f", {type_of(schema, _link_to)}."))
        parts.append(inner)
        examples = content.get("examples") or ({"": {"value": content["example"]}} if "example" in content else {})
        for name, example in list(examples.items())[:1]:
            parts.append(f"An example of {name}:" if name else "An example:")
            parts.append(json_block(example["value"]))
    return paragraphs(*parts) if parts else ""


def _answer(path: str, status: str, answer: Mapping[str, Any]) -> tuple[str, str, str]:
    bodies = []
    for media_type, content in answer.get("content", {}).items():
        schema = content.get("schema", {})
        inner = schema.get("properties", {})
        kind = type_of(schema, _link_to) if schema and not inner else ""
        bodies.append(f"{code(media_type)} {kind}".strip())
    if status == "default":
        shape = link("Problem" if is_native(path) else "OpenAIError")
        return "other", shape, f"See {link('Errors')}."
    meaning = answer.get("description", "")
    return status, ", ".join(bodies), "" if meaning == "Successful Response" else meaning


def _link_to(name: str) -> str:
    """Return the link to an object: to the page of events if it is described there."""
    return f"[{name}](events.md{anchor(name)})" if name in parts_of_events() else link(name)


def _shown(api: Mapping[str, Any]) -> set[str]:
    """Return the names of the objects that routes refer to, directly or not, and that the page of events does not
    describe.
    """
    schemas = api["components"]["schemas"]
    found, new = set[str](), {"Problem", "OpenAIError", *named_parts(api["paths"])}
    while new:
        found |= new
        new = {name for part in new for name in named_parts(schemas[part])} - found
    return found - parts_of_events().keys()

"""Generated pages of the documentation: each is what the code says now, and complete."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.clients.driven import CLIENTS, Client
from tests.docs.pages import DOCS, ROOT, anchors
from tools.reference import command_page, event_page, http_page, metrics_page
from tools.reference.pages import PAGES
from tools.reference.settings_page import described

from headrace_schemas.envelope import ATTRIBUTES
from headrace_schemas.event_types import known_types
from headrace_schemas.jsonschema import build_json_schema


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_what_the_code_says(name: str) -> None:
    assert (DOCS / name).read_text("utf-8") == PAGES[name]()


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_client_on_the_page_is_imported_by_what_drives_it(client: Client) -> None:
    """A row without such tests, or without a version, would promise what nobody has tried."""
    imports = re.compile(rf"""(?:import|from) ["']?{re.escape(client.imported)}(?:["']|\s)""")
    assert [file for file in client.files if not imports.search((ROOT / file).read_text("utf-8"))] == []
    assert re.fullmatch(r"\d[\d.]+((, | and )\d[\d.]+)*", client.versions)


def test_every_variable_that_is_named_in_the_code_is_described_once() -> None:
    named = {name for path in _sources() for name in re.findall(r"HEADRACE_[A-Z_]+[A-Z]", path.read_text("utf-8"))}
    known = list(described())
    assert named - set(known) == set()
    assert len(known) == len(set(known))


def test_the_environment_is_read_in_one_module_of_each_package() -> None:
    """Elsewhere a variable could be read that nothing describes. The health check of a container, in `reports.py`,
    names four of them, and cannot afford to load that module.
    """
    reads = [path for path in _sources() if re.search(r"\bos\.(environ|getenv)|from os import .*env", path.read_text())]
    assert [path.name for path in reads] == ["settings.py", "environment.py", "reports.py"]


def _sources() -> Iterator[Path]:
    for folder in ("producers", "workers"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def test_every_command_has_a_text_and_its_options_too() -> None:
    """A command, an argument or an option without a help text would be an empty row."""
    silent = []
    for name, command in command_page.commands():
        parameters = [] if command_page.is_group(command) else command.params
        texts = [("", command.help), *((parameter.opts[0], parameter.help) for parameter in parameters)]
        silent += [f"{name} {option}".strip() for option, text in texts if not text]
    assert silent == []


def test_every_command_names_an_example() -> None:
    leaves = [command for command in command_page.commands() if not command_page.is_group(command.command)]
    assert [leaf.name for leaf in leaves if f"headrace {leaf.name}" not in (leaf.command.help or "")] == []


def test_every_header_is_described() -> None:
    page = event_page.page()
    assert [name for name in ATTRIBUTES if f"| `ce_{name}` |" not in page] == []


def test_every_field_of_an_event_has_a_meaning() -> None:
    """A field whose description is missing in the code would be an empty cell."""
    schemas = {row.name: build_json_schema(row) for row in known_types()} | event_page.parts_of_events()
    silent = [
        f"{name}.{field}"
        for name, schema in schemas.items()
        for field, described_field in schema.get("properties", {}).items()
        if not described_field.get("description")
    ]
    assert silent == []


def test_every_route_has_a_section() -> None:
    """A route that OpenAPI names has a heading, so that it can be linked to."""
    routes = [
        http_page.heading(method.upper(), path)
        for path, methods in http_page.document()["paths"].items()
        for method in methods
    ]
    found = set(anchors((DOCS / "reference" / "http.md").read_text("utf-8")))
    assert [route for route in routes if anchors(f"### {route}")[0] not in found] == []


def test_every_metric_of_the_gateway_stands_on_the_page() -> None:
    page = metrics_page.page()
    named = {
        name
        for path in _sources()
        if path.name == "metrics.py"
        for name in re.findall(r"\"(headrace_[a-z_]+)\"", path.read_text("utf-8"))
    }
    assert len(named) >= 9
    assert [
        name for name in sorted(named) if not re.search(rf"\| `{name}(_total)?` \|.*\| \S[^|]* \|$", page, re.M)
    ] == []

"""Every parameter of the installed client's methods is in docs/reference/openai.md, in the class that the code has."""

import inspect
import re
from functools import cache
from pathlib import Path

import openai
import pytest
from openai._resource import SyncAPIResource

from headrace_workers.features.generation.api.responses import COUNTED
from headrace_workers.features.generation.openai import chat, completions, decisions, embeddings, moderations, responses
from headrace_workers.features.generation.openai.decisions import OF_DECISION
from headrace_workers.features.generation.openai.request import OF_ANY, OF_GENERATION, WISHES

PAGE = (Path(__file__).parents[5] / "docs" / "reference" / "openai.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.integration  # to import the client takes a second

CLASSES = {"works", "refused", "out of scope"}
# The client's own, not the method's.
OF_CLIENT = {"self", "extra_headers", "extra_query", "extra_body", "timeout"}
CODE = {
    "chat.completions.create": chat.PARAMETERS,
    "completions.create": completions.PARAMETERS,
    "responses.create": responses.PARAMETERS,
    "responses.input_tokens.count": COUNTED,
    "embeddings.create": embeddings.PARAMETERS,
    "moderations.create": moderations.PARAMETERS,
    "decisions.create": decisions.PARAMETERS,
}


def rows(part):
    """The cells of each row of the tables in a part of the page, without their heads."""
    lines = [line for line in part.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [row for row in cells if row[0].startswith("`")]


def names(cell):
    return re.findall(r"`([^`]+)`", cell)


def section(title, mark="## "):
    _, _, rest = PAGE.partition(f"\n{mark}{title}\n")
    return re.split(r"\n#{1,3} ", rest, maxsplit=1)[0]


def tables():
    """By method: the class of each parameter, as the page says."""
    found = {}
    for title, body in re.findall(r"\n### (`[^\n]+)\n((?:(?!\n#).)*)", PAGE, re.DOTALL):
        classes = [(name, row[1]) for row in rows(body) for name in names(row[0])]
        assert len(dict(classes)) == len(classes), f"{title}: a parameter stands in two rows"
        for method in names(title):
            found[method] = dict(classes)
    return found


TABLES = tables()


def resources(node, path=""):
    """Every resource of the client, by its path."""
    found = {}
    for name in dir(type(node)):
        if not name.startswith(("_", "with_")) and not inspect.isfunction(inspect.getattr_static(type(node), name)):
            value = getattr(node, name)
            if isinstance(value, SyncAPIResource):
                found[path + name] = value
                found |= resources(value, f"{path}{name}.")
    return found


@cache
def client_resources():
    """Those of the client that is installed. To look at all of them loads all of the library, which takes a second."""
    return resources(openai.OpenAI(api_key="none"))


ROWS = {name: row for row in rows(section("Resources")) for name in names(row[0])}
WORKING = [f"{resource}.{method}" for resource, row in ROWS.items() for method in names(row[1])]


def parameters(method):
    resource, _, name = method.rpartition(".")
    return set(inspect.signature(getattr(client_resources()[resource], name)).parameters) - OF_CLIENT


@pytest.mark.parametrize("method", WORKING)
def test_every_parameter_is_in_exactly_one_class(method):
    assert TABLES[method].keys() >= parameters(method), f"not on the page: {parameters(method) - TABLES[method].keys()}"
    assert set(TABLES[method].values()) <= CLASSES


def test_no_table_has_what_the_client_does_not():
    for table in {frozenset(table.items()) for table in TABLES.values()}:
        methods = [method for method, other in TABLES.items() if frozenset(other.items()) == table]
        assert {name for name, _ in table} <= set().union(*map(parameters, methods)), methods


@pytest.mark.parametrize("method", CODE)
def test_the_page_says_what_the_code_does(method):
    code = CODE[method]
    works = {name for name in code.works if name != WISHES}
    assert not works & code.refused.keys()
    assert not works & code.unmeant.keys()
    assert not code.refused.keys() & code.unmeant.keys()
    said = {
        **dict.fromkeys(works, "works"),
        **dict.fromkeys(code.refused, "refused"),
        **dict.fromkeys(code.unmeant, "out of scope"),
    }
    told = {name: TABLES[method][name] for name in TABLES[method].keys() & parameters(method)}
    assert told == said


def test_every_resource_of_the_client_is_on_the_page():
    named = {name.split(".")[0] for name in ROWS}
    assert named == {name.split(".")[0] for name in client_resources()}
    assert ROWS.keys() <= client_resources().keys()


def test_every_working_method_is_one_of_the_client():
    for method in WORKING:
        resource, _, name = method.rpartition(".")
        assert callable(getattr(client_resources()[resource], name))
        assert method in TABLES


def test_every_wish_is_on_the_page():
    told = {name: row[1] for row in rows(section("Options of headrace")) for name in names(row[0])}
    assert told == {
        name: "all" if name in OF_ANY else "generation, decision" if name in OF_DECISION else "generation"
        for name in {*OF_GENERATION, *OF_DECISION}
    }

"""Attributes and filters as they are typed: `team=support`, `year>=2025`, or a filter as JSON."""

import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer
from pydantic import ValidationError

from headrace_schemas.attributes import AttributeMap, Attributes, Filter
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.model import Value
from headrace_schemas.reasons import describe

WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where", metavar="KEY=VALUE", help="only documents with this attribute: KEY=VALUE, also != < <= > >=, or JSON"
    ),
]
MetaOption = Annotated[
    list[str] | None, typer.Option("--meta", metavar="KEY=VALUE", help="an attribute of each of these documents")
]

_TYPES: Final = {"=": "eq", "!=": "ne", ">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_COMPARED: Final = re.compile(r"([^=<>!]+)(!=|>=|<=|=|<|>)(.*)", re.DOTALL)


class _Where(Value):
    knowledge_filter: Filter


class _Meta(Value):
    attributes: Attributes


def attributes_of(given: Sequence[str] | None) -> AttributeMap:
    """Return the attributes of all `--meta` options. Raise ConfigurationError for one that cannot be an attribute."""
    found: dict[str, Any] = {}
    for each in given or ():
        key, mark, value = each.partition("=")
        if not mark:
            raise ConfigurationError(f"--meta {each!r} has no value: write KEY=VALUE")
        if key.strip() in found:
            raise ConfigurationError(f"--meta names {key.strip()!r} twice: a document has one value of it")
        found[key.strip()] = _typed(value)
    try:
        return _Meta.model_validate({"attributes": found}).attributes
    except ValidationError as error:
        raise ConfigurationError(f"--meta: {describe(error)}") from None


def filter_of(given: Sequence[str] | None) -> Filter | None:
    """Return one filter for all `--where` options, which must all hold; None without any. Raise ConfigurationError."""
    if not given:
        return None
    filters = [_filter(each) for each in given]
    whole = filters[0] if len(filters) == 1 else {"type": "and", "filters": filters}
    try:
        return _Where.model_validate_json(json.dumps({"knowledge_filter": whole}), strict=True).knowledge_filter
    except ValidationError as error:
        raise ConfigurationError(f"--where: {describe(error)}") from None


def _filter(text: str) -> Any:
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise ConfigurationError(f"--where begins like JSON, but is not JSON: {error}") from None
    compared = _COMPARED.fullmatch(text)
    if compared is None:
        raise ConfigurationError(
            f"--where {text!r} has no comparison: write KEY=VALUE (or != < <= > >=), or a filter as JSON"
        )
    key, mark, value = compared.groups()
    return {"type": _TYPES[mark], "key": key.strip(), "value": _typed(value)}


def _typed(text: str) -> bool | int | float | str:
    """Return the value of true, false and numbers as JSON writes them; everything else, and text in quotes, is text."""
    try:
        value = json.loads(text, parse_constant=_no_number)
    except ValueError:
        return text.strip()
    return value if isinstance(value, bool | int | float | str) else text.strip()


def _no_number(name: str) -> None:
    raise ValueError(name)

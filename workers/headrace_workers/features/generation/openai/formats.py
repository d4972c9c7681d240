"""Formats of answers as OpenAI writes them (`response_format`, `text.format`), and as a job holds them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from headrace_workers.features.generation.openai.request import WISHES, Body, flag
from headrace_workers.http.openai import Parameters, missing, unsupported, wrong

_OUTPUT: Final = "output"  # the field of a job
_SCHEMA: Final = "json_schema"

_BARE: Final = Parameters(frozenset({"type"}))
_WRAPPED: Final = Parameters(frozenset({"type", _SCHEMA}))
_NAMED: Final = Parameters(frozenset({"name", "description", "schema", "strict"}))
_FLAT: Final = Parameters(frozenset({"type", "name", "description", "schema", "strict"}))
_TEXT: Final = Parameters(frozenset({"format"}), unmeant={"verbosity": ("medium",)})


@dataclass(frozen=True, slots=True)
class Asked:
    """The fields of a job that a part of a body asks for, and the names that the body has for them."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)


def chat_format(asked: Body, param: str = "response_format") -> Asked:
    """Return the format that a chat completion asks for. Raise Refused for a format that OpenAI's API does not have."""
    given = asked.get("response_format")
    if _type_of(given, param) != _SCHEMA:
        return _bare(given, param, asked)
    within = f"{param}.{_SCHEMA}"
    schema = _WRAPPED.given(given, param).get(_SCHEMA)
    if schema is None:
        raise missing(within)
    return _by_schema(_NAMED.given(schema, within), within, asked)


def response_format(asked: Body, param: str = "text") -> Asked:
    """Return the format that a response asks for. Raise Refused for a format that OpenAI's API does not have."""
    given = _TEXT.given(asked.get("text", {}), param).get("format")
    within = f"{param}.format"
    if _type_of(given, within) != _SCHEMA:
        return _bare(given, within, asked)
    return _by_schema(_FLAT.given(given, within), within, asked)


def _type_of(given: Any, param: str) -> str:
    if given is None:
        return "text"
    if not isinstance(given, Mapping):
        raise wrong(param, "must be an object")
    kind = given.get("type")
    if kind is None:
        raise missing(f"{param}.type")
    if kind not in ("text", "json_object", _SCHEMA):
        words = f'must be text, json_object or {_SCHEMA}; send other formats as {{"{WISHES}": {{"{_OUTPUT}": …}}}}'
        raise unsupported(f"{param}.type", words)
    return str(kind)


def _bare(given: Any, param: str, asked: Body) -> Asked:
    if given is None or _BARE.given(given, param)["type"] == "text":
        return Asked()
    return _only({"type": "json_object"}, {_OUTPUT: param}, param, asked)


def _by_schema(given: Mapping[str, Any], param: str, asked: Body) -> Asked:
    if "name" not in given:
        raise missing(f"{param}.name")
    if "schema" not in given:
        raise missing(f"{param}.schema")
    flag(given, "strict", within=f"{param}.")  # either way the whole schema holds
    output = {
        "type": _SCHEMA,
        "name": given["name"],
        _SCHEMA: _described(given["schema"], given.get("description"), param),
    }
    names = {f"{_OUTPUT}.{_SCHEMA}": f"{param}.schema", _OUTPUT: param}
    return _only(output, names, param, asked)


def _described(schema: Any, description: Any, param: str) -> Any:
    """Return the schema with the format's description before its own, since the model reads the schema."""
    if description is None or not isinstance(schema, Mapping):
        return schema
    if not isinstance(description, str):
        raise wrong(f"{param}.description", "must be text")
    own = schema.get("description")
    both = f"{description}\n{own}" if isinstance(own, str) and own != description else description
    return {**schema, "description": both}


def _only(output: Mapping[str, Any], names: Mapping[str, str], param: str, asked: Body) -> Asked:
    options = asked.get(WISHES)
    if isinstance(options, Mapping) and options.get(_OUTPUT) is not None:
        raise wrong(param, f"{WISHES}.{_OUTPUT} names a format, too: give one of the two")
    return Asked({_OUTPUT: output}, names)

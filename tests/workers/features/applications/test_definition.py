import re
from typing import Any

import pytest

from headrace_schemas import Message
from headrace_schemas.errors import ConfigurationError, InvalidRecord
from headrace_workers.features.applications.definition import Definition, Problem, Turn, Variable, render


def application(template: str = "{{ text }}", /, **variables: dict[str, Any]) -> Definition:
    return Definition(
        name="triage",
        problem=Problem(purpose="Route tickets.", owner="support", task="classification", metric="exact_match"),
        job={"model": "echo"},
        messages=(Turn(role="system", text="Be brief."), Turn(role="user", text=template)),
        variables={name: Variable.model_validate(variable) for name, variable in variables.items()},
    )


ALL = {
    "text": {"type": "text", "max_length": 10},
    "kind": {"type": "text", "enum": ["a", "b"], "default": "a"},
    "count": {"type": "integer", "default": 1},
    "share": {"type": "number", "default": 0.5},
    "urgent": {"type": "boolean", "default": False},
    "tags": {"type": "list", "max_length": 2, "enum": ["x", "y"], "default": ["x"]},
}


def test_messages_are_rendered_with_the_defaults_of_what_is_not_given() -> None:
    definition = application("{{ text }} {{ kind }} {{ count }} {{ share }} {{ urgent }} {{ tags }}", **ALL)
    assert render(definition, {"text": "t", "count": 5.0, "share": 2}) == (
        Message(role="system", content="Be brief."),
        Message(role="user", content='t a 5 2 false ["x"]'),
    )


@pytest.mark.parametrize(
    ("values", "name", "code", "reason"),
    [
        ({}, "text", "missing_required_parameter", "is missing: the application triage needs it"),
        ({"text": "t", "txt": "t"}, "txt", "unknown_parameter", "is no variable of the application triage; known are"),
        ({"text": 5}, "text", "invalid_value", "must be text, not a number"),
        ({"text": "a" * 11}, "text", "invalid_value", "has 11 characters; the limit is 10"),
        ({"text": "a" * 1_000_000}, "text", "invalid_value", "has more than 200000 characters"),
        ({"text": "\x00"}, "text", "invalid_value", "NUL"),
        ({"text": "t", "count": "5"}, "count", "invalid_value", "must be a whole number, not text"),
        ({"text": "t", "count": True}, "count", "invalid_value", "must be a whole number, not true or false"),
        ({"text": "t", "count": 2**60}, "count", "invalid_value", "must be at most"),
        ({"text": "t", "share": "0.5"}, "share", "invalid_value", "must be a number, not text"),
        ({"text": "t", "share": True}, "share", "invalid_value", "must be a number, not true or false"),
        ({"text": "t", "share": float("nan")}, "share", "invalid_value", "must be a finite number"),
        ({"text": "t", "urgent": "true"}, "urgent", "invalid_value", "must be true or false, not text"),
        ({"text": "t", "kind": "c"}, "kind", "invalid_value", 'must be one of "a", "b"'),
        ({"text": "t", "tags": "x"}, "tags", "invalid_value", "must be a list, not text"),
        ({"text": "t", "tags": ["x", 5]}, "tags", "invalid_value", "item 2 must be text"),
        ({"text": "t", "tags": ["x"] * 3}, "tags", "invalid_value", "has 3 items; the limit is 2"),
        ({"text": "t", "tags": ["z"]}, "tags", "invalid_value", 'must be one of "x", "y"'),
    ],
)
def test_a_wrong_variable_is_refused_by_name(values: dict[str, Any], name: str, code: str, reason: str) -> None:
    with pytest.raises(InvalidRecord, match=re.escape(reason)) as refused:
        render(application(**ALL), values)
    assert (refused.value.param, refused.value.code) == (f"variables.{name}", code)


def test_a_message_that_becomes_too_long_is_refused() -> None:
    """A loop could write 100 MB."""
    definition = application(
        "{% for each in tags %}{{ text }}{% endfor %}", text={"type": "text"}, tags={"type": "list"}
    )
    with pytest.raises(InvalidRecord, match="message 2 of the application triage has more than 200000 characters"):
        render(definition, {"text": "a" * 100_000, "tags": ["x"] * 100})


def test_messages_that_become_too_long_together_are_refused() -> None:
    definition = application(text={"type": "text"})
    turns = definition.messages[1:] * 10
    with pytest.raises(InvalidRecord, match="message 6 of the application triage has more than 100000 characters"):
        render(definition.model_copy(update={"messages": turns}), {"text": "a" * 180_000})


def test_the_templates_of_all_messages_share_their_steps() -> None:
    definition = application("{{ text | trim }}" * 6, text={"type": "text"})
    assert len(definition.model_copy().templates) == 2
    with pytest.raises(ConfigurationError, match="may take more than 100,000 steps, with the messages before it"):
        _ = definition.model_copy(update={"messages": definition.messages * 2}).templates


def test_json_gives_the_same_definition() -> None:
    text = application(**ALL).to_json()
    read = Definition.from_json(text)
    assert (read.to_json(), read.digest) == (text, application(**ALL).digest)


def test_the_digest_does_not_depend_on_the_order_of_variables_nor_on_fields_that_are_not_set() -> None:
    turned = dict(reversed(ALL.items()))
    assert application(**turned).digest == application(**ALL).digest
    assert '"name":null' not in application().to_json()


def test_a_version_of_a_later_headrace_says_so() -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be read: .*later headrace"):
        Definition.from_json('{"name": "triage", "later": 1}')
    with pytest.raises(ConfigurationError, match=r"cannot be rendered: .*later headrace"):
        render(application("{{ text | later }}", text={"type": "text"}), {"text": ""})

"""Texts with places for fields."""

import pytest

from headrace_workers.features.evals.placeholders import NoSuchField, Template


def test_fields_go_where_they_are_named() -> None:
    """Also twice, with white space, and with a name of several words; what is no text goes in as JSON."""
    template = Template.parse("{{ a }} and {{a}}, {{the answer}}: {{list}} {b} }}")
    row = {"a": "x", "the answer": "é", "list": [1, None, "ä"]}
    assert template.fill(row) == 'x and x, é: [1, null, "ä"] {b} }}'


def test_what_a_row_brings_is_not_looked_at_again() -> None:
    assert Template.parse("{{a}}{{b}}").fill({"a": "{{b}}", "b": "{0.__class__} {{a}}"}) == "{{b}}{0.__class__} {{a}}"


@pytest.mark.parametrize(
    ("row", "reason"), [({"b": 1, "c": 2}, "it lacks `a`; it has `b`, `c`"), ({"a": None}, "null")]
)
def test_what_a_row_lacks_is_named(row: dict[str, object], reason: str) -> None:
    with pytest.raises(NoSuchField, match=reason):
        Template.parse("{{a}}").fill(row)


@pytest.mark.parametrize("text", ["{{", "{{}}", "{{a", "{{ }} x", "x {{a{b}}}"])
def test_what_opens_no_placeholder_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="opens no placeholder"):
        Template.parse(text)

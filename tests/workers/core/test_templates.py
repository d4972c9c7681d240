import pytest

from headrace_workers.core.templates import (
    BOOLEAN,
    FILTERS,
    NUMBER,
    NoSuchField,
    Shape,
    Template,
    TooLong,
    WrongTemplate,
)

VARIABLES = {
    "text": Shape("text", 4_000),
    "long": Shape("text", 200_000),
    "items": Shape("list", 100, 100),
    "count": NUMBER,
    "urgent": BOOLEAN,
}
VALUES = {"text": "a", "long": "b", "items": ["x", "y"], "count": 2, "urgent": True}


def filled(template: str, /, **values: object) -> str:
    return Template.with_logic(template, VARIABLES).fill({**VALUES, **values})


def test_fields_go_where_they_are_named() -> None:
    """Also twice, with white space, and with a name of several words; what is no text goes in as JSON."""
    template = Template.parse("{{ a }} and {{a}}, {{the answer}}: {{list}} {b} }}")
    row = {"a": "x", "the answer": "é", "list": [1, None, "ä"]}
    assert template.fill(row) == 'x and x, é: [1, null, "ä"] {b} }}'


def test_a_text_with_places_has_no_other_syntax() -> None:
    text = "{% if a %}{# a #} {{a}}\r\n"
    assert Template.parse(text).fill({"a": "1"}) == "{% if a %}{# a #} 1\r\n"


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


@pytest.mark.parametrize("text", ["{{a}}" * 1_000, "{% for x in items %}{{ long }}{% endfor %}"])
def test_a_text_that_grows_too_long_is_given_up(text: str) -> None:
    long = "b" * 150_000
    template = Template.with_logic(text, VARIABLES) if "long" in text else Template.parse(text)
    with pytest.raises(TooLong, match="has more than 200000 characters"):
        template.fill({"a": long, "long": long, "items": ["x"] * 100})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ text }} {{ count }} {{ urgent }} {{ items }}", 'a 2 true ["x", "y"]'),
        ("{% if urgent and count > 1 %}yes{% elif text == 'b' %}no{% else %}?{% endif %}", "yes"),
        (
            "{% for each in items %}\n- {{ loop.index }}/{{ loop.length }} {{ each }}\n{% endfor %}",
            "- 1/2 x\n- 2/2 y\n",
        ),
        ("{% for each in items if each != 'x' %}{{ each }}{% else %}none{% endfor %}", "y"),
        ("{{ 'now' if text in ['a', 'b'] else 'later' }}", "now"),
        ("{{ text | upper }}{{ items | join(', ') }}{{ items | length }}{{ items | first }}", "Ax, y2x"),
        ("{{ text | trim | default('-', true) }}", "a"),
        (
            "{{ 2.718 | round }} {{ 2.718 | round(2) }} {{ 2.718 | round(99) }} {{ 2.718 | round(1.5) }}",
            "3 2.72 2.718 2.7",
        ),
        ("{% raw %}{{ text }}{% endraw %}{{ '{{' }}", "{{ text }}{{"),
    ],
)
def test_a_template_has_conditions_loops_and_filters(text: str, expected: str) -> None:
    assert filled(text) == expected


@pytest.mark.parametrize("value", ["{{ count }}", "{% for x in items %}", "{{ ''.__class__ }}", "<|im_start|>system\n"])
def test_a_value_with_template_code_or_marks_of_a_model_stays_text(value: str) -> None:
    assert filled("{{ text }}{{ items | join('') }}", text=value, items=[value]) == value * 2


@pytest.mark.parametrize("name", FILTERS)
def test_no_filter_fails_for_values_at_the_edges(name: str) -> None:
    """It would fail for one job in a million, long after the template was accepted."""
    for variable, values in {"text": ("", "ß" * 4_000), "items": ([], [""]), "count": (0, -0.5, 1e300)}.items():
        text = f"{{{{ {variable} | {name} }}}}"
        if VARIABLES[variable].kind in FILTERS[name].takes:
            for value in values:
                assert isinstance(filled(text, **{variable: value}), str)


@pytest.mark.parametrize(
    "code",
    [
        "{{ text.__class__ }}",
        "{{ text['__class__'] }}",
        "{{ text[:1] }}",
        "{{ text() }}",
        "{{ text | attr('__class__') }}",
        "{{ items | map('upper') }}",
        "{% import 'os' as os %}",
        "{% include 'x' %}",
        "{% extends 'x' %}",
        "{% macro a() %}{% endmacro %}",
        "{% set a = 1 %}",
        "{% call text() %}{% endcall %}",
        "{{ 'a' * 1000000000 }}",
        "{{ 2 ** 99999999 }}",
        "{{ text ~ text }}",
        "{{ self }}",
        "{{ loop.index }}",
        "{{ range(10) }}",
        "{% for x in items recursive %}{{ loop(items) }}{% endfor %}",
        "{% for x in items %}{{ loop.__class__ }}{% endfor %}",
        "{{ text | join(long) }}",
        "{{ unknown }}",
    ],
)
def test_a_template_that_calls_looks_up_or_imports_is_refused(code: str) -> None:
    with pytest.raises(WrongTemplate) as refused:
        Template.with_logic(f"one\n{code}", VARIABLES)
    assert refused.value.line == 2


@pytest.mark.parametrize(
    "text",
    [
        "{% for a in items %}{% for b in items %}{% for c in items %}{% endfor %}{% endfor %}{% endfor %}",
        "{% for a in items %}{% for b in items %}{% if loop.first == loop.last %}y{% endif %}{% endfor %}{% endfor %}",
        "{% for a in items %}{% for b in items %}{{ count }}{% endfor %}{% endfor %}",
        "{% for a in items %}{% if a in long %}{% endif %}{% endfor %}",
        "{% for a in items %}{% if long | upper == 'X' %}{% endif %}{% endfor %}",
        "{{ text | tojson | tojson | tojson | tojson | tojson }}",
        "{{ text }}" * 5_000,
        "{% if urgent %}" * 100 + "{% endif %}" * 100,
        "{{" + "not " * 5_000 + "urgent }}",
        "{{ " + "1" * 5_000 + " }}",
    ],
)
def test_a_template_that_could_run_long_is_refused_before_it_runs(text: str) -> None:
    with pytest.raises(WrongTemplate):
        Template.with_logic(text, VARIABLES)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{ items | upper }}", "upper takes a text, not a list"),
        ("{{ text > count }}", "a text cannot be compared with a number"),
        ("{% for x in text %}{% endfor %}", "variable of the type list"),
        ("{% for text in items %}{% endfor %}", "a name that is in use"),
        ("{% for self in items %}{{ self }}{% endfor %}", "a name that is in use"),
        ("{{" + "not " * 20 + "urgent }}", "is nested more than 16 deep"),
        ("{% if urgent %}" * 20 + "{% endif %}" * 20, "is nested more than 16 deep"),
        ("{{ text if urgent }}", "needs an `else`"),
        ("{{ text | upper(1) }}", "takes nothing in brackets"),
        ("{{ text ", "is no template"),
    ],
)
def test_a_template_that_would_fail_when_it_is_filled_is_refused(text: str, reason: str) -> None:
    with pytest.raises(WrongTemplate, match=reason):
        Template.with_logic(text, VARIABLES)

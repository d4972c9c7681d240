import re

import pytest

from headrace_workers.features.evals.graders import LONGEST_FORMULA, Formula

NAMES = ("a", "b")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a", 0.5), ("0.7*a + 0.3*b", 0.65), ("min(a, b)", 0.5), ("max(a)", 0.5), ("-a ^ 2", -0.25),
        ("b + a^2", 1.25), ("(a + b) / 2", 0.75),
        ("sqrt(abs(a - b)) ** 2", 0.5), ("floor(a) + ceil(a)", 1.0), ("exp(log(b))", 1.0), (" +a ", 0.5),
    ],
)  # fmt: skip
def test_it_computes(text: str, value: float):
    """As one reads it; a power binds as tightly as it does in Python, written either way."""
    assert Formula.parse(text, NAMES).value({"a": 0.5, "b": 1.0}) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("c", "'c' is not one of the graders a, b"),
        ("a.real", "'a.real' is not taken"),
        ("__import__('os')", "is not taken"),
        ("(lambda: a)()", "is not taken"),
        ("[a]", "is not taken"),
        ("a if b else 1", "is not taken"),
        ("a and b", "is not taken"),
        ("sqrt(a, b)", "sqrt takes one value"),
        ("min(a, key=b)", "is not taken"),
        ("'a'", "is not taken"),
        ("True", "is not taken"),
        ("a +", "is no formula"),
        ("a; b", "is no formula"),
        ("", "is no formula"),
        ("a +" * LONGEST_FORMULA + "a", f"has more than {LONGEST_FORMULA} characters"),
        ("(" * 240 + "a" + ")" * 240, "is no formula"),
        ("~" * (LONGEST_FORMULA - 1) + "a", "is not taken"),
    ],
)
def test_what_is_no_arithmetic_is_refused(text: str, reason: str):
    with pytest.raises(ValueError, match=re.escape(reason)):
        Formula.parse(text, NAMES)


@pytest.mark.parametrize(
    "text",
    [
        "a / (b - 1)", "9 ^ 9 ^ 9 ^ 9", "log(a - a)", "(a - b) ^ 0.5", "exp(9999)", "1e999 * a", "(a - a) ^ -1",
        "max((a - b) ^ 0.5, 0)", "floor((a - b) ^ 0.5)", "abs((a - b) ^ 0.5)",
    ],
)  # fmt: skip
def test_what_has_no_value_says_so(text: str):
    with pytest.raises(ValueError, match=r"\w"):
        Formula.parse(text, NAMES).value({"a": 0.5, "b": 1.0})

"""Docstrings are written in plain English."""

import ast
import re
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_OPENS = re.compile(r"(?:What|Who|Whom|Whose|Whoever|Whatever|Of one|Of what|That which)\b")
_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def test_no_sentence_of_a_docstring_begins_with_a_relative_clause() -> None:
    """Readers need such a sentence twice: its subject has no name."""
    found = [
        f"{path.relative_to(_ROOT)}: {sentence}"
        for folder in ("workers", "producers", "schemas")
        for path in sorted((_ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, _DOCUMENTED)
        for sentence in re.split(r"(?<=[.!?])\s+", ast.get_docstring(node) or "")
        if _OPENS.match(sentence)
    ]
    assert found == []

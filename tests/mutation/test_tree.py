"""What mutmut cannot mutate is found without running it, which takes most of a minute."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.mutation.tree import TESTS, make_tree, mutated


def hidden(source: str) -> list[str]:
    """The names that annotations of a class's methods take from the module, and that a method of the class has, too.

    mutmut writes each mutant beside the method that it is made of: behind that, the name is the method's.
    """
    return [
        f"{node.name}.{name}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef)
        for name in sorted(set(_annotations(node)) & {each.name for each in _methods(node)})
    ]


def _methods(node: ast.ClassDef) -> Iterator[ast.FunctionDef]:
    return (each for each in node.body if isinstance(each, ast.FunctionDef))


def _annotations(node: ast.ClassDef) -> Iterator[str]:
    for method in _methods(node):
        arguments = [each.annotation for each in ast.walk(method.args) if isinstance(each, ast.arg)]
        for annotation in filter(None, (method.returns, *arguments)):
            yield from (part.id for part in ast.walk(annotation) if isinstance(part, ast.Name))


def test_it_is_found():
    assert hidden("import failed\nclass A:\n    def failed(self) -> list[failed.Failure]: ...") == ["A.failed"]
    assert hidden("import failed\nclass A:\n    def failed(self) -> list[Failure]: ...") == []


def test_no_method_hides_what_annotations_mean():
    files = mutated()
    assert len(files) > 100
    assert {path.name: found for path in files if (found := hidden(path.read_text(encoding="utf-8")))} == {}


@pytest.mark.slow
def test_the_tests_that_are_to_notice_can_be_collected_there(tmp_path: Path):
    make_tree(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider", *TESTS],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": "src"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr

"""The examples of docs/develop/extending.md run as they stand. add-a-feature.md beside it shows the tested sample."""

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/develop/extending.md").read_text("utf-8")
SAMPLE = ROOT / "tests/extending/readability"
EXAMPLES = {
    title: blocks
    for title, text in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    if (blocks := re.findall(r"```python\n(.*?)```", text, re.DOTALL))
}


def run(title: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "example"}
    for block in EXAMPLES[title]:
        exec(compile(block, "docs/develop/extending.md", "exec"), namespace)
    return namespace


def test_the_page_of_features_shows_the_sample_that_is_tested() -> None:
    page = (ROOT / "docs/develop/add-a-feature.md").read_text("utf-8")
    files = {path.name: path.read_text("utf-8") for path in SAMPLE.glob("*.py") if path.name != "__init__.py"}
    assert dict(re.findall(r"^`(\w+\.py)`:\n\n```python\n(.*?)```$", page, re.MULTILINE | re.DOTALL)) == files
    assert page.count("```python\n") == len(files)


@pytest.mark.parametrize("title", EXAMPLES)
def test_examples_run(title: str) -> None:
    """None raises; what they assert holds."""
    run(title)

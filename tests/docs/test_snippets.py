"""Python in the documentation: each block is valid, and each that is marked runs."""

import pytest
from tests.docs.pages import blocks, pages, read

from headrace_producers.admin import ensure_topics

MARKED = [page for page in pages() if any("run" in block.marks for block in blocks(read(page)))]


@pytest.mark.parametrize("page", pages())
def test_python_compiles(page: str) -> None:
    """Each block of Python is valid."""
    for block in blocks(read(page)):
        if block.language == "python":
            compile(block.text, page, "exec")


@pytest.mark.parametrize("page", MARKED)
def test_marked_blocks_run(page: str, embedded_kafka, monkeypatch) -> None:
    ensure_topics(embedded_kafka.settings())
    monkeypatch.setenv("HEADRACE_KAFKA", embedded_kafka.address)
    namespace: dict[str, object] = {"__name__": "example"}
    for block in blocks(read(page)):
        if "run" in block.marks:
            exec(compile(block.text, page, "exec"), namespace)

import re
from pathlib import Path

import pytest

from headrace_producers.admin import ensure_topics

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
# What needs `headrace up` is in tests/acceptance, and the receiver of webhooks in test_examples.py.
PYTHON = [block for block in BLOCKS if "openai" not in block and "standardwebhooks" not in block]


@pytest.mark.parametrize("block", PYTHON, ids=range(len(PYTHON)))
def test_python_examples_run(block, embedded_kafka, monkeypatch):
    ensure_topics(embedded_kafka.settings())
    monkeypatch.setenv("HEADRACE_KAFKA", embedded_kafka.address)
    namespace = {}
    exec(compile(block, "README.md", "exec"), namespace)
    assert len(namespace["job_id"]) == 36


def test_make_has_what_readme_names():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test", "bench", "chaos"} <= targets

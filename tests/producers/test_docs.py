"""The examples of docs/producers.md run."""

import re
import uuid
from pathlib import Path

from headrace_producers.admin import ensure_topics
from headrace_schemas.event_types import types_on
from headrace_schemas.topics import INBOUND

PAGE = (Path(__file__).parents[2] / "docs" / "producers.md").read_text(encoding="utf-8")


def test_the_examples_run_in_their_order(embedded_kafka, monkeypatch, capsys):
    """Each Python block runs after those before it, against a broker that the environment names."""
    monkeypatch.setenv("HEADRACE_KAFKA", embedded_kafka.address)
    monkeypatch.setenv("HEADRACE_TOPIC_PREFIX", "docs.")
    ensure_topics(embedded_kafka.settings("docs."))
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 7
    scope: dict[str, object] = {}
    for block in blocks:
        # No worker runs here, so nothing answers: the example is not waited for.
        exec(compile(block.replace("timeout=60", "timeout=0.1"), "docs/producers.md", "exec"), scope)
    assert uuid.UUID(capsys.readouterr().out.strip())
    scope["producer"].close()


def test_the_page_names_every_inbound_topic_and_type():
    """What other languages need to know is what the contract says."""
    for topic in INBOUND:
        assert f"`{topic.named()}`" in PAGE
    assert all(f"`{row.name}`" in PAGE for topic in INBOUND for row in types_on(topic))

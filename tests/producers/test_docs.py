import re
import uuid
from pathlib import Path

from headrace_producers.admin import ensure_topics
from headrace_schemas.event_types import types_on
from headrace_schemas.topics import INBOUND

DOCS = Path(__file__).parents[2] / "docs"
PUBLISH = DOCS / "how-to" / "publish-jobs.md"
CLIENT = DOCS / "reference" / "python-client.md"
RECORDS = DOCS / "reference" / "kafka-records.md"


def test_the_examples_run_in_their_order(embedded_kafka, monkeypatch, capsys):
    monkeypatch.setenv("HEADRACE_KAFKA", embedded_kafka.address)
    monkeypatch.setenv("HEADRACE_TOPIC_PREFIX", "docs.")
    ensure_topics(embedded_kafka.settings("docs."))
    blocks = re.findall(r"```python\n(.*?)```", PUBLISH.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 7
    scope: dict[str, object] = {}
    for block in blocks:
        # No worker runs here, so nothing answers: the example is not waited for.
        exec(compile(block.replace("timeout=60", "timeout=0.1"), "publish-jobs.md", "exec"), scope)
    assert uuid.UUID(capsys.readouterr().out.strip())
    scope["producer"].close()


def test_a_job_s_id_is_derived_as_the_reference_says():
    (block,) = re.findall(r"```python\n(.*?)```", CLIENT.read_text(encoding="utf-8"), re.DOTALL)
    assert "assert expected ==" in block
    exec(compile(block, "python-client.md", "exec"), {})


def test_the_page_names_every_inbound_topic_and_type():
    page = RECORDS.read_text(encoding="utf-8")
    for topic in INBOUND:
        assert f"`{topic.named()}`" in page
    assert all(f"`{row.name}`" in page for topic in INBOUND for row in types_on(topic))

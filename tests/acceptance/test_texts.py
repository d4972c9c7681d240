"""Texts that come back as vectors and verdicts, as a user meets them: the real bridge and its workers."""

import base64
import json
import struct

import pytest
from tests.acceptance.conftest import Shell, lines, running
from tests.services.models import MINILM, minilm

pytestmark = pytest.mark.acceptance

JOBS = (
    {"kind": "embedding", "input": "Where is the mill?", "metadata": {"row": "1"}},
    {"kind": "embedding", "input": "Where is the mill?", "dimensions": 8},
    {"kind": "embedding", "input": "How tall is the tower of the church?"},
    {"kind": "embedding", "input": "mill " * 300},
    {"kind": "embedding", "input": "a", "model": "other"},
    {"kind": "moderation", "input": "Write to ann@headrace.io, please."},
    {"kind": "moderation", "input": "Write to nobody."},
    {"prompt": "An answer, too."},
)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A stack with MiniLM and the echo model."""
    folder = tmp_path_factory.mktemp("texts")
    models = folder / ".headrace" / "models"
    models.mkdir(parents=True)
    (models / MINILM).symlink_to(minilm("int8", tmp_path_factory) / "models" / MINILM)
    with running(folder) as shell:
        yield shell


def test_a_file_of_all_kinds(shell):
    (shell.folder / "jobs.jsonl").write_text("".join(json.dumps(job) + "\n" for job in JOBS))
    told = lines(shell.run("submit", "jobs.jsonl", "--wait", "--json", code=1))
    found = {receipt["line"]: receipt for receipt in told}
    whole, cut, other = (found[line]["embedding"] for line in (1, 2, 3))
    assert (whole["model"], whole["dimensions"], cut["dimensions"]) == (MINILM, 384, 8)
    assert whole["embedder"].startswith(f"{MINILM}/int8_pairs/")
    assert found[1]["metadata"] == {"row": "1"}
    vector, short, far = (
        struct.unpack(f"<{item['dimensions']}f", base64.b64decode(item["vector"])) for item in (whole, cut, other)
    )
    assert sum(a * b for a, b in zip(vector, far, strict=True)) < 0.8 < sum(a * a for a in vector) < 1.001
    assert sum(a * a for a in short) == pytest.approx(1.0, abs=1e-5)
    assert found[1]["stages"][0]["stage"] == "embed"
    assert "has 302 tokens, and all-minilm-l6-v2 reads 256 at most" in found[4]["reason"]
    assert f"no embedder is called 'other'; there is: {MINILM}" in found[5]["reason"]
    assert [found[line]["moderation"]["action"] for line in (6, 7)] == ["redact", "allow"]
    assert found[6]["moderation"]["findings"][0]["category"] == "email"
    assert "ann@headrace.io" not in json.dumps(found[6])
    assert found[8]["answer"]["text"] == "An answer, too."


def test_status_and_results_show_them(shell):
    """For people, by what came of them."""
    line = json.dumps({"kind": "embedding", "input": "a mill"}) + "\n"
    (shell.folder / "one.jsonl").write_text(line)
    (receipt,) = lines(shell.run("submit", "one.jsonl", "--wait", "--json"))
    (job,) = lines(shell.run("status", receipt["job_id"], "--json"))
    assert (job["kind"], job["state"], [step["queue"] for step in job["steps"]]) == ("embedding", "done", ["embed"])
    assert "a vector of 384 dimensions" in shell.run("results", "--from-beginning")

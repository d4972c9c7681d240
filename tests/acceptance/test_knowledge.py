"""Answers that rest on documents, as a user meets them: a real model, a real embedder, the bridge and its workers."""

import itertools
from pathlib import Path

import pytest
from tests.acceptance.conftest import Shell, lines, running
from tests.services.eventually import eventually
from tests.services.models import MINILM, SMOLLM2, minilm, smollm2

pytestmark = pytest.mark.acceptance

MILL = """# The mill at Ebersbach

## Opening hours

The mill museum is open from Tuesday to Sunday, from ten in the morning until four. On Mondays it is closed.

## The wheel

The wheel has a diameter of six metres and was built of larch in 1921.
"""


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A stack with SmolLM2 and MiniLM, and a base `mill` of one document."""
    folder = tmp_path_factory.mktemp("knowledge")
    models = folder / ".headrace" / "models"
    models.mkdir(parents=True)
    for name, home in ((SMOLLM2, smollm2("int8", tmp_path_factory)), (MINILM, minilm("int8", tmp_path_factory))):
        (models / name).symlink_to(home / "models" / name)
    (folder / "mill.md").write_text(MILL)
    with running(folder, "--model", SMOLLM2, "--model", "echo", HEADRACE_SERVE_UNSHOWN="true") as shell:
        shell.run("knowledge", "add", "mill", "mill.md")
        yield shell


def ask(shell: Shell, prompt: str, *options: str, model: str = "echo", code: int = 0) -> dict[str, object]:
    """The receipt of one prompt."""
    (receipt,) = lines(
        shell.run("submit", "--prompt", prompt, "--model", model, *options, "--wait", "--json", code=code)
    )
    return receipt


def test_the_answer_rests_on_the_passage_that_says_it(shell):
    receipt = ask(
        shell, "When is the mill museum open?", "--knowledge", "mill", "--max-tokens", "30", model=SMOLLM2
    )  # fmt: skip
    best = receipt["answer"]["grounding"]["citations"][0]
    assert best["document"] == "mill.md"
    assert "Opening hours" in best["section"]
    assert "open from Tuesday to Sunday" in MILL[best["start"] : best["stop"]]
    assert best["relevance"] >= receipt["answer"]["grounding"]["floor"]
    assert receipt["answer"]["usage"]["prompt_tokens"] > 100
    assert [record["stage"] for record in receipt["stages"]][:2] == ["recall", "generate"]


def test_a_question_about_something_else_is_not_answered(shell):
    receipt = ask(shell, "Who won the chess tournament in Havana?", "--knowledge", "mill")
    assert (receipt["answer"]["finish_reason"], receipt["answer"]["text"]) == ("abstained", "")
    receipt = ask(
        shell, "Who won the chess tournament in Havana?", "--knowledge", "mill", "--without-passages", "answer"
    )  # fmt: skip
    assert receipt["answer"]["text"] == "Who won the chess tournament in Havana?"


def test_another_tenant_has_no_such_base(shell):
    """The reason says how it would get one."""
    receipt = ask(shell, "When is the mill museum open?", "--knowledge", "mill", "--tenant", "acme", code=1)
    assert receipt["type"] == "headrace.dead.v1"
    assert "acme has no knowledge base 'mill'" in receipt["reason"]


def test_the_same_question_in_other_words_has_its_citations(shell):
    options = ("--knowledge", "mill", "--cache", "semantic")
    first = ask(shell, "What is the diameter of the wheel?", *options)
    assert first["answer"]["recall"]["tier"] == "none"
    marks = itertools.count(1)  # the recall worker hears of an answer a moment after it was given

    def found() -> dict[str, object] | None:
        told = ask(shell, f"What is the diameter of the wheel?{'!' * next(marks)}", *options)
        return told if told["answer"]["recall"]["tier"] == "semantic" else None

    second = eventually(found)
    assert second["answer"]["grounding"] == first["answer"]["grounding"]


def test_the_receipt_of_a_document_that_was_changed(shell):
    Path(shell.folder / "mill.md").write_text(MILL.replace("ten in the morning", "noon"))
    shell.run("knowledge", "add", "mill", "mill.md")
    eventually(lambda: "from noon until four" in str(ask(shell, "When is it open?", "--knowledge", "mill")))


def test_a_vector_store_is_a_base_that_jobs_rest_on(shell):
    import re

    from openai import OpenAI

    log = shell.folder / "up.log"
    (address,) = eventually(lambda: re.findall(r"OPENAI_BASE_URL=(\S+)", log.read_text()))
    (key,) = eventually(lambda: re.findall(r"OPENAI_API_KEY=\$\(cat (\S+)\)", log.read_text()))
    client = OpenAI(base_url=address, api_key=(shell.folder / key).read_text().strip(), timeout=120)
    file = client.files.create(file=("mill.md", MILL.encode()), purpose="assistants")
    store = client.vector_stores.create(name="The mill")
    read = client.vector_stores.files.create_and_poll(file.id, vector_store_id=store.id, attributes={"language": "en"})
    assert (read.status, read.attributes) == ("completed", {"language": "en"})
    english = {"type": "eq", "key": "language", "value": "en"}
    best = client.vector_stores.search(store.id, query="How large is the wheel?", filters=english).data[0]
    assert (best.filename, "six metres" in best.content[0].text) == ("mill.md", True)
    options = ("--knowledge", store.id, "--where")
    receipt = ask(shell, "How large is the wheel of the mill?", *options, "language=en")
    assert receipt["answer"]["grounding"]["citations"][0]["attributes"] == {"language": "en"}
    receipt = ask(shell, "How large is the wheel of the mill?", *options, "language=de")
    assert receipt["answer"]["grounding"]["reason"] == "knowledge_filter matches no document"
    assert client.vector_stores.delete(store.id).deleted

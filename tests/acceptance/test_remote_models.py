"""`headrace up` with a model on another machine."""

from pathlib import Path

import pytest
from tests.acceptance.conftest import lines, running
from tests.services.provider import providing

pytestmark = pytest.mark.acceptance


def test_a_model_named_by_its_address_answers_through_the_whole_stack(tmp_path: Path) -> None:
    with (
        providing() as provider,
        running(tmp_path, "--model", f"{provider.url}/v1#teacher", HEADRACE_MODEL="teacher") as stack,
    ):
        (receipt,) = lines(stack.run("submit", "--prompt", "hello there", "--wait", "--json"))
        answer = receipt["answer"]
        assert (receipt["status"], answer["text"], answer["model"]) == ("completed", "hello there", "teacher")
        assert (answer["provider"], answer["returned_model"]) == ("own", "teacher-2026-11-01")
        file = tmp_path / "jobs.jsonl"
        file.write_text('{"prompt": "x", "sampling": {"temperature": 1.0, "top_k": 5}}\n')
        refused = stack.call("submit", "jobs.jsonl", "--wait", "--json", code=(0, 1, 2, 3, 4))
        assert "the model teacher has no parameter top_k" in refused.stdout + refused.stderr
        assert "teacher" in stack.run("models", "list")
        said = (tmp_path / "up.log").read_text()
        assert "Added to" in said
        assert '[models."teacher"]' in said
        assert "models on other machines" in stack.call("doctor", code=(0, 1)).stdout

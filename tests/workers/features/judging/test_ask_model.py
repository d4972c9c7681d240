from pathlib import Path

import pytest
from tests.services.provider import Provider, Reply, providing
from tests.workers.models.engines.remote_models import remote

from headrace_schemas import Rubric, Score
from headrace_workers.features.judging.ask_model import ask_all
from headrace_workers.features.judging.scores import Subject


@pytest.mark.parametrize(
    ("formats", "sent"), [(["choice"], {"choice": ["yes", "Yes", "no", "No"]}), (["json_schema", "json_object"], None)]
)
def test_a_judge_is_held_to_the_answers_of_its_scale(
    tmp_path: Path, formats: list[str], sent: dict[str, list[str]] | None
) -> None:
    def agrees(_provider: Provider, reply: Reply) -> None:
        reply.start()
        reply.text("yes")
        reply.end()

    criterion = Rubric(question="Is it a length?")
    subject = Subject("3 metres.", (criterion,), "How tall is it?", tenant="shop")
    with providing(agrees) as provider:
        judge = remote(tmp_path, "openai", provider.url, formats=formats)
        found = ask_all({(0, 0): criterion}, [subject], judge)
        (heard,) = provider.heard
    score = found[0, 0]
    assert isinstance(score, Score)
    assert score.value == 1.0
    assert heard.body.get("structured_outputs") == sent

import openai
import pytest
from tests.workers.http.openai_client import openai_of
from tests.workers.http.served import Gateway


@pytest.fixture(scope="module")
def client(gateway: Gateway):
    with openai_of(gateway) as found:
        yield found


def test_each_prompt_is_answered(client: openai.OpenAI):
    completion = client.completions.create(model="echo", prompt=["Name rivers.", "Name lakes."], max_tokens=50)
    assert ["rivers" in completion.choices[0].text, "lakes" in completion.choices[1].text] == [True, True]
    receipts = completion.model_extra["headrace"]
    assert len({receipt["job_id"] for receipt in receipts}) == 2
    assert completion.usage.completion_tokens > 0


def test_chunks_come_to_the_texts(client: openai.OpenAI):
    texts = {0: "", 1: ""}
    for chunk in client.completions.create(model="echo", prompt=["Name rivers.", "Name lakes."], stream=True):
        (choice,) = chunk.choices
        texts[choice.index] += choice.text
    assert ["rivers" in texts[0], "lakes" in texts[1]] == [True, True]

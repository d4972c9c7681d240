"""A response that rests on a vector store, from the file to the citation, asked for by OpenAI's own client."""

from tests.chaos.deployment import Deployment
from tests.workers.http.openai_client import openai_of
from tests.workers.http.served import Gateway

MILL = b"# Mills\n\nA mill stands by the river.\n"
QUESTION = "A mill stands by the river?"


def test_a_response_rests_on_a_file(gateway: Gateway, deployment: Deployment):
    deployment.start("recall")
    with openai_of(gateway) as client:
        store = client.vector_stores.create(name="Mills")
        file = client.vector_stores.files.upload_and_poll(
            vector_store_id=store.id, file=("mill.md", MILL), attributes={"year": 2026}
        )
        assert file.status == "completed"
        tool = {"type": "file_search", "vector_store_ids": [store.id]}
        response = client.responses.create(model="echo", input=QUESTION, tools=[tool])
        search, message = response.output
        assert (search.type, search.queries) == ("file_search_call", [QUESTION])
        (citation,) = message.content[0].annotations
        assert (citation.file_id, citation.filename) == (file.id, "mill.md")
        assert message.content[0].text[citation.index :].startswith("[1]")
        elsewhere = {**tool, "filters": {"type": "eq", "key": "year", "value": 1976}}
        refused = client.responses.create(model="echo", input=QUESTION, tools=[elsewhere])
        assert refused.output[-1].content[0].type == "refusal"
        assert refused.output_text == ""

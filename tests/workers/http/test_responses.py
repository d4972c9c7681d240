from uuid import uuid4

import openai
import pytest
from tests.services.eventually import eventually
from tests.workers.http.openai_client import openai_of
from tests.workers.http.served import Gateway, answer

from headrace_workers.features.generation.openai.response_body import job_id_of

RIVERS = {"model": "echo", "input": "Name three rivers."}
ENDED = ("completed", "incomplete", "failed", "cancelled")

NOT_THERE = "9f0d2c7e-3b1a-5c44-8e5d-6a7b8c9d0e1f"  # the id of no job


@pytest.fixture(scope="module")
def client(gateway: Gateway):
    with openai_of(gateway) as found:
        yield found


def test_a_response_is_answered_and_can_be_retrieved(client: openai.OpenAI):
    found = client.responses.create(**RIVERS, instructions="Be short.", metadata={"order": "17"}, max_output_tokens=64)
    assert "rivers" in found.output_text
    assert (found.status, found.instructions, found.metadata) == ("completed", "Be short.", {"order": "17"})
    assert found.usage.output_tokens > 0
    assert client.responses.retrieve(found.id) == found


def test_in_the_background_it_is_told_at_once_and_answered_later(client: openai.OpenAI):
    begun = client.responses.create(**RIVERS, background=True)
    assert (begun.status, begun.background, begun.output) == ("queued", True, [])
    ended = eventually(lambda: (found := client.responses.retrieve(begun.id)).status in ENDED and found)
    assert (ended.id, ended.status, ended.created_at) == (begun.id, "completed", begun.created_at)
    assert "rivers" in ended.output_text


def test_a_response_goes_on_from_another(client: openai.OpenAI):
    first = client.responses.create(**RIVERS, instructions="Speak of water.")
    second = client.responses.create(model="echo", input="And lakes?", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    assert second.usage.input_tokens > first.usage.input_tokens
    third = client.responses.create(model="echo", input="And seas?", previous_response_id=second.id)
    assert third.usage.input_tokens > second.usage.input_tokens


def test_items_of_earlier_responses_are_sent_by_reference(client: openai.OpenAI):
    """As the Vercel AI SDK does from the second turn on: each is read, and listed, as if it had been sent itself."""
    first = client.responses.create(**RIVERS)
    turns = [
        {"role": "user", "content": [{"type": "input_text", "text": "Name three rivers."}]},
        {"type": "item_reference", "id": first.output[0].id},
        {"role": "user", "content": [{"type": "input_text", "text": "And lakes?"}]},
    ]
    second = client.responses.create(model="echo", input=turns)
    itself = client.responses.create(model="echo", input=[turns[0], first.model_dump()["output"][0], turns[2]])
    assert second.usage.input_tokens == itself.usage.input_tokens > first.usage.input_tokens
    listed = client.responses.input_items.list(second.id, order="asc").data
    assert [(item.role, item.content[0].text) for item in listed] == [
        ("user", "Name three rivers."), ("assistant", first.output_text), ("user", "And lakes?"),
    ]  # fmt: skip
    assert client.responses.retrieve(second.id) == second


def test_a_reference_to_what_is_not_there_is_refused_by_its_place(client: openai.OpenAI, gateway: Gateway):
    kept, unkept = client.responses.create(**RIVERS), client.responses.create(**RIVERS, store=False)
    with openai_of(gateway, gateway.key("another")) as stranger:
        for who, id in (
            (client, f"msg_{NOT_THERE}"), (client, "msg_x"), (client, ""), (client, unkept.output[0].id),
            (client, kept.output[0].id.replace("msg_", "fs_")), (stranger, kept.output[0].id),
        ):  # fmt: skip
            turns = [{"role": "user", "content": "Hello."}, {"type": "item_reference", "id": id}]
            with pytest.raises(openai.NotFoundError) as caught:
                who.responses.create(model="echo", input=turns)
            assert caught.value.param == "input[1].id"


def test_what_a_response_was_asked_with_is_listed(client: openai.OpenAI):
    first = client.responses.create(**RIVERS)
    asked = [
        {"role": "system", "content": "Be short."},
        *first.model_dump(exclude_none=True)["output"],
        {"role": "user", "content": [{"type": "input_text", "text": "And lakes?"}]},
    ]
    made = client.responses.create(model="echo", input=asked)
    items = list(client.responses.input_items.list(made.id, order="asc", limit=1))
    assert [(item.role, item.content[0].text) for item in items] == [
        ("system", "Be short."), ("assistant", first.output_text), ("user", "And lakes?"),
    ]  # fmt: skip
    assert list(client.responses.input_items.list(made.id)) == items[::-1]
    rest = client.responses.input_items.list(made.id, after=items[0].id, order="asc")
    assert (rest.data, rest.has_more) == (items[1:], False)
    (only,) = client.responses.input_items.list(first.id)
    assert (only.type, only.role, only.content[0].text) == ("message", "user", RIVERS["input"])


def test_items_that_cannot_be_listed(client: openai.OpenAI):
    made = client.responses.create(**RIVERS)
    for wrong, param in (({"after": "in_x"}, "after"), ({"include": ["message.output_text.logprobs"]}, "include[]")):
        with pytest.raises(openai.BadRequestError) as caught:
            client.responses.input_items.list(made.id, **wrong)
        assert caught.value.param == param
    with pytest.raises(openai.NotFoundError):
        client.responses.input_items.list(f"resp_{NOT_THERE}")


@pytest.mark.parametrize("id", ["resp_x", f"resp_{NOT_THERE}", NOT_THERE])
def test_one_that_is_not_there(client: openai.OpenAI, id: str):
    for call in (client.responses.retrieve, client.responses.cancel, client.responses.delete):
        with pytest.raises(openai.NotFoundError):
            call(id)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(**RIVERS, previous_response_id=id)


def test_one_that_was_deleted_or_not_stored_is_not_there(client: openai.OpenAI):
    kept, unkept = client.responses.create(**RIVERS), client.responses.create(**RIVERS, store=False)
    client.responses.delete(kept.id)
    for found in (kept, unkept):
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(found.id)
        assert client.get(f"/jobs/{job_id_of(found.id)}", cast_to=object)["state"] == "done"


def test_a_stream_ends_with_the_response(client: openai.OpenAI):
    with client.responses.stream(**RIVERS) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert "rivers" in final.output_text
    assert client.responses.retrieve(final.id).output_text == final.output_text


def test_how_far_it_is_and_that_it_was_cancelled(alone: Gateway, bridge):
    with openai_of(alone) as client:
        first = client.responses.create(**RIVERS, background=True)
        assert client.responses.retrieve(first.id).status == "queued"
        second = client.responses.create(**RIVERS, background=True)
        assert client.responses.cancel(second.id).status == "cancelled"
        with pytest.raises(openai.BadRequestError) as caught:
            client.responses.create(**RIVERS, previous_response_id=first.id)
        assert caught.value.param == "previous_response_id"
        with bridge():
            eventually(lambda: alone.services.ledger.active_jobs() == 1)
            assert client.responses.retrieve(first.id).status == "queued"
            answer(alone.services.ledger, job_id_of(first.id), "The Rhine.")
            assert client.responses.retrieve(first.id).output_text == "The Rhine."
            assert client.responses.cancel(first.id).status == "completed"
            assert client.responses.cancel(second.id).status == "cancelled"


def test_only_what_runs_in_the_background_can_be_cancelled(client: openai.OpenAI):
    found = client.responses.create(**RIVERS)
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(found.id)


@pytest.mark.parametrize(
    ("options", "param"),
    [({"include": ["file_search_call.results"]}, "include[]"), ({"stream": True}, "stream"),
     ({"starting_after": 3}, "starting_after")],
)  # fmt: skip
def test_what_cannot_be_retrieved_is_refused_by_name(client: openai.OpenAI, options, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.retrieve(f"resp_{uuid4()}", **options)
    assert caught.value.param == param

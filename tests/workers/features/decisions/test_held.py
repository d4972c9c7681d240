import json

from tests.workers.runtime.bridge.records import decision

from headrace_schemas import Message
from headrace_schemas.codec import encode_value
from headrace_workers.features.reviews.item_texts import ItemContent, shown


def test_a_reviewer_sees_the_conversation_of_a_held_decision() -> None:
    turns = (Message(role="user", content="It is late."), Message(role="assistant", content="Sorry."))
    payload = encode_value(decision(input=None, messages=turns))
    context = json.dumps({"context": {}, "stages": []}).encode()
    nothing = dict.fromkeys(("terminal_type", "terminal", "traceparent", "correlationid", "event_type", "event"))
    content = ItemContent(
        kind="decision", payload=payload, context=context, reason="the prompt: hate", held_at=1, **nothing
    )
    assert shown(content, "screen", blind=True).turns == turns

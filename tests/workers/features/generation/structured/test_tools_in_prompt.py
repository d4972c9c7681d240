"""Tools in the prompts of models whose template knows none."""

import json

from headrace_schemas import Message
from headrace_schemas.tool import NO_TOOLS, Offer, Tool, ToolCall
from headrace_workers.features.generation.structured.tools import in_words

CLOCK = Tool(name="clock", description="Tells the time.")
MUST = Offer((CLOCK,), required=True)
ASKED = Message(role="user", content="What time is it?")
CALLED = Message(role="assistant", tool_calls=(ToolCall(id="c1", name="clock", arguments='{"zone": "UTC"}'),))
TOLD = Message(role="tool", tool_call_id="c1", content="12:00")


def test_tools_are_described_in_the_system_prompt() -> None:
    """Behind the caller's own system prompt, or in one of their own, once and compact, with the form of a call."""
    (alone, asked) = in_words([ASKED], MUST)
    (behind, _) = in_words([Message(role="system", content="Be brief."), ASKED], MUST)
    described = {"name": "clock", "description": "Tells the time.", "parameters": {"type": "object", "properties": {}}}
    assert asked is ASKED
    assert (alone.role, behind.role) == ("system", "system")
    assert alone.content.splitlines()[1] == json.dumps(described)
    assert '{"name": <the tool\'s name>, "arguments": <' in alone.content
    assert behind.content == f"Be brief.\n\n{alone.content}"


def test_a_model_that_may_choose_is_told_so() -> None:
    """And how to call several, where it may."""
    told = in_words([ASKED], Offer((CLOCK,), most=2))[0].content
    assert told.startswith("You may call these tools")
    assert told.endswith("on a line of its own.\nIf no tool helps, answer without a call.")
    assert "several" not in in_words([ASKED], Offer((CLOCK,)))[0].content


def test_beside_a_format_calls_stand_in_tags() -> None:
    """In what the model is told, and in earlier turns, so that both say the same."""
    told, _, called, _ = in_words([ASKED, CALLED, TOLD], Offer((CLOCK,), beside_format=True))
    assert '<tool_call>\n{"name": <the tool' in told.content
    assert called.content == '<tool_call>\n{"name": "clock", "arguments": {"zone": "UTC"}}\n</tool_call>'


def test_a_conversation_without_tools_stays_as_it_is() -> None:
    """Nothing is added where nothing is offered, and no turn is about a call."""
    assert in_words([ASKED], NO_TOOLS) == (ASKED,)


def test_turns_about_calls_become_plain_turns() -> None:
    """A call is what the assistant wrote, and a result the user's words, which join the user's turn beside it: some
    templates refuse two turns of one role.
    """
    other = Message(role="tool", tool_call_id="gone", content="13:00")
    turns = in_words([ASKED, CALLED, TOLD, other, Message(role="user", content="So?")], NO_TOOLS)
    assert [(each.role, each.content) for each in turns] == [
        ("user", "What time is it?"),
        ("assistant", '{"name": "clock", "arguments": {"zone": "UTC"}}'),
        ("user", "The tool clock returned:\n12:00\n\nThe tool that you called returned:\n13:00\n\nSo?"),
    ]
    assert not any(each.tool_calls or each.tool_call_id for each in turns)


def test_words_before_a_call_are_kept() -> None:
    """An assistant may say something and call a tool in one turn."""
    said = CALLED.model_copy(update={"content": "I look."})
    assert (
        in_words([ASKED, said, TOLD], NO_TOOLS)[1].content == 'I look.\n{"name": "clock", "arguments": {"zone": "UTC"}}'
    )

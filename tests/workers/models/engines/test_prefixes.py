"""Which beginnings are shared, and which of these are kept: by counts alone, without a model."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from headrace_schemas import Message, Sampling
from headrace_schemas.tool import Offer, Tool
from headrace_workers.models.engines.prefixes import (
    FEWEST,
    LEAST_TOKENS,
    MOST_KEPT,
    OFTEN,
    Beginning,
    Prefixes,
    digest_of,
)
from headrace_workers.models.generator import Request

LONG = "You are the assistant of a shop. " * 20


def conversation(system: str, said: str = "hello") -> tuple[Message, ...]:
    return (Message(role="system", content=system), Message(role="user", content=said))


def begin(system: Sequence[Message], _tools: Sequence[Tool] = ()) -> tuple[str, ...]:
    """A model whose template puts nothing around the system prompt; a character is a token."""
    return tuple(system[0].content)


def of(prefixes: Prefixes, system: str, rows: int = 1, tenant: str | None = "a") -> Beginning:
    """What so many prompts of one call begin with, each of them."""
    requests = [Request(conversation(system, str(number)), Sampling(), tenant) for number in range(rows)]
    tokens = [[*request.messages[0].content, *request.messages[1].content] for request in requests]
    (beginning,) = set(prefixes.of(requests, tokens))
    return beginning


def keeping(most_tokens: int = 100_000) -> Prefixes:
    return Prefixes(begin, most_tokens=most_tokens)


def seen_often(prefixes: Prefixes, system: str, tenant: str = "a") -> Beginning:
    """What is made of a system prompt that has been seen often enough."""
    of(prefixes, system, OFTEN, tenant)
    return of(prefixes, system, 1, tenant)


def test_what_a_call_shares_is_computed_for_it_and_kept_once_it_is_seen_often() -> None:
    prefixes = keeping()
    assert of(prefixes, LONG, FEWEST - 1).tokens == ()
    first = of(prefixes, LONG, OFTEN - FEWEST + 1)
    assert (first.tokens, first.kept) == (tuple(LONG), False)
    kept = of(prefixes, LONG)
    assert (kept.tokens, kept.kept) == (tuple(LONG), True)
    assert of(prefixes, LONG, 40) is kept
    assert kept.options == {"static_prompt": list(LONG), "cache_static_prompt": True}


@pytest.mark.parametrize("system", ["short", "x" * (LEAST_TOKENS - 1), "  " * LEAST_TOKENS])
def test_a_beginning_that_would_not_pay_is_left_alone(system: str) -> None:
    prefixes = Prefixes(lambda system, _tools: tuple(system[0].content.split()), most_tokens=100_000)
    assert seen_often(prefixes, system).tokens == ()


def test_so_many_are_kept_and_no_more() -> None:
    prefixes = keeping()
    kept = [seen_often(prefixes, f"{number} {LONG}") for number in range(MOST_KEPT)]
    assert all(beginning.kept for beginning in kept)
    assert seen_often(prefixes, f"one more {LONG}").tokens == ()
    assert (of(prefixes, f"one more {LONG}", FEWEST).kept, of(prefixes, f"0 {LONG}")) == (False, kept[0])


def test_so_many_tokens_are_kept_and_no_more() -> None:
    prefixes = keeping(len(LONG) + LEAST_TOKENS * 2)
    assert seen_often(prefixes, LONG).kept
    assert not seen_often(prefixes, LONG[:-1]).kept
    assert seen_often(prefixes, "x" * LEAST_TOKENS * 2).kept
    assert of(keeping(0), LONG, 40).tokens == ()


def test_no_tenant_finds_what_was_computed_for_another() -> None:
    prefixes = keeping()
    first = seen_often(prefixes, LONG)
    assert of(prefixes, LONG, 1, "b").tokens == ()
    assert not of(prefixes, LONG, OFTEN, "b").kept
    second, third = of(prefixes, LONG, 1, "b"), seen_often(prefixes, LONG, "c")
    assert (first.tokens, second.tokens, third.tokens) == (tuple(LONG), tuple(LONG[:-1]), tuple(LONG[:-2]))
    assert first.kept
    assert second.kept
    assert third.kept
    assert of(prefixes, LONG, 40, None).tokens == ()
    assert digest_of("a", conversation(LONG)) != digest_of("b", conversation(LONG))


def test_a_prompt_that_begins_otherwise_runs_whole() -> None:
    """Such as where the template writes something else for it, or nothing behind it."""
    prefixes = keeping()
    requests = [Request(conversation(LONG), Sampling(), "a") for _ in range(FEWEST + 2)]
    tokens = [[*LONG, "?"]] * FEWEST + [["!", *LONG, "?"], list(LONG)]
    assert [len(beginning.tokens) for beginning in prefixes.of(requests, tokens)] == [len(LONG)] * FEWEST + [0, 0]


def test_a_template_that_writes_another_day_begins_anew() -> None:
    day = "1"
    prefixes = Prefixes(lambda system, _tools: (day, *system[0].content), most_tokens=100_000)
    asked = [Request(conversation(LONG), Sampling(), "a")] * OFTEN

    def today() -> Beginning:
        return prefixes.of(asked, [[day, *LONG, "?"]] * OFTEN)[0]

    today()
    assert today().tokens[0] == "1"
    day = "2"
    assert (today().tokens[0], today().kept) == ("2", True)


def test_threads_that_meet_a_beginning_at_one_time_keep_it_once() -> None:
    together = Barrier(2)

    def meeting(system: Sequence[Message], _tools: Sequence[Tool] = ()) -> tuple[str, ...]:
        together.wait(120)
        return begin(system)

    prefixes = Prefixes(begin, most_tokens=100_000)
    of(prefixes, LONG, OFTEN)
    prefixes._begin = meeting
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: of(prefixes, LONG), range(2))
    assert first is second
    assert (first.tokens, first.kept) == (tuple(LONG), True)


def test_conversations_share_what_stands_before_the_first_turn() -> None:
    system = Message(role="system", content=LONG)
    more = Message(role="system", content="Be brief.")
    user = Message(role="user", content="hello")
    plain = digest_of("a", [system, user])
    assert plain == digest_of("a", [system, Message(role="user", content="bye"), more])
    assert plain != digest_of("a", [system, more, user])
    assert digest_of("a", [user, system]) is digest_of("a", [user]) is digest_of("a", []) is None
    assert plain is not None
    assert -(2**63) <= plain < 2**63


def test_prompts_share_tools_with_their_system_prompt() -> None:
    wind, rain = (Tool(name=name, description=name * 100) for name in ("wind", "rain"))
    user = Message(role="user", content="hi")
    alone = digest_of("a", [user], Offer((wind,)))
    assert alone is not None
    assert alone == digest_of("a", [Message(role="user", content="bye")], Offer((wind,)))
    others = [([user], (rain,)), ([user], (wind, rain)), (conversation(LONG), ()), (conversation(LONG), (wind,))]
    digests = {digest_of("a", turns, Offer(tools)) for turns, tools in others}
    assert len({alone, digest_of("b", [user], Offer((wind,))), *digests}) == 6
    assert digest_of("a", [user], Offer((Tool(name="wind"),))) is None
    begins = {"wind": ("w",) * LEAST_TOKENS, "rain": ("r",) * LEAST_TOKENS}
    prefixes = Prefixes(lambda _system, offer: begins[offer.tools[0].name], most_tokens=100_000)
    requests = [Request((user,), Sampling(), "a", offer=Offer((wind,))) for _ in range(FEWEST)]
    requests += [Request((user,), Sampling(), "a", offer=Offer((rain,), required=True)) for _ in range(FEWEST)]
    requests += [Request((user,), Sampling(), "a", tools=(wind,))]
    tokens = [[*begins["wind"], "x"]] * FEWEST + [[*begins["rain"], "x"]] * FEWEST + [[*begins["wind"], "x"]]
    found = [beginning.tokens for beginning in prefixes.of(requests, tokens)]
    assert found == [begins["wind"]] * FEWEST + [begins["rain"]] * FEWEST + [()]

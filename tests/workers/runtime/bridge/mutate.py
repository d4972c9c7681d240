"""Valid records, and what may happen to them on the way: for fuzzing."""

import json
import random
from dataclasses import replace
from typing import Any

from tests.workers.runtime.bridge.records import cancel, embedding, evaluation, generation, moderation, record

from headrace_schemas import Contains, Message, Rubric, Sampling
from headrace_schemas.job import POLICY_MODEL
from headrace_workers.core.ledger.dead_letters import Record

_ODD: tuple[Any, ...] = (
    None, True, 0, -1, 10**30, 1.5, "", "\ud800", "a\x00b", [], {}, [[]], {"a": {}}, "9999-12-31T23:59:59-23:59",
    "x" * 5_000,
)  # fmt: skip


def valid_records() -> list[Record]:
    """Records of every kind that ingest takes."""
    full = Sampling(temperature=0.7, top_p=0.9, top_k=40, max_tokens=9, stop=("x",), seed=3, repetition_penalty=1.2)
    rubric = Rubric(question="Kind?", model="other")
    events = [
        generation(),
        generation(tenant="shop", priority=9, idempotency_key="k", metadata={"a": "b"}, sampling=full),
        generation(prompt=None, messages=(Message(role="system", content="s"), Message(role="user", content="ü€"))),
        generation(criteria=(Contains(text="a"), rubric), reference="r"),
        evaluation(),
        evaluation(criteria=(rubric,), context="c"),
        embedding(dimensions=3),
        moderation(model=POLICY_MODEL),
        cancel("6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11", reason="late"),
    ]
    return [record(event) for event in events]


def mutate(given: Record, chance: random.Random, offset: int) -> Record:
    """The record at another offset, with none to three things done to it."""
    changed = replace(given, offset=offset)
    for _ in range(chance.randrange(4)):
        changed = chance.choice(_MUTATIONS)(changed, chance)
    return changed


def _flip(given: Record, chance: random.Random) -> Record:
    value = bytearray(given.value or b"")
    for _ in range(chance.randrange(1, 4)):
        if value:
            value[chance.randrange(len(value))] ^= 1 << chance.randrange(8)
    return replace(given, value=bytes(value))


def _cut(given: Record, chance: random.Random) -> Record:
    value = given.value or b""
    return replace(given, value=chance.choice([value[: chance.randrange(len(value) + 1)], value * 2, None]))


def _drop_header(given: Record, chance: random.Random) -> Record:
    headers = list(given.headers)
    if headers:
        headers.pop(chance.randrange(len(headers)))
    return replace(given, headers=tuple(headers))


def _change_header(given: Record, chance: random.Random) -> Record:
    headers = list(given.headers)
    if headers:
        place = chance.randrange(len(headers))
        name, text = headers[place]
        garbage = (None, b"", b"\xff\xfe", b"\x00", b"9" * 2_000, (text or b"")[::-1])
        headers[place] = (name, chance.choice(garbage))
    return replace(given, headers=tuple(headers))


def _repeat_header(given: Record, chance: random.Random) -> Record:
    again = (chance.choice(given.headers),) if given.headers else ()
    return replace(given, headers=given.headers + again)


def _repeat_key(given: Record, chance: random.Random) -> Record:
    fields = _fields(given)
    if not fields:
        return given
    name = chance.choice(sorted(fields))
    again = json.dumps({name: chance.choice(_ODD)})[1:-1]
    return replace(given, value=(given.value or b"")[:-1] + f", {again}}}".encode("utf-8", "surrogatepass"))


def _swap_type(given: Record, chance: random.Random) -> Record:
    fields = _fields(given)
    if fields:
        fields[chance.choice(sorted(fields))] = chance.choice(_ODD)
    return replace(given, value=json.dumps(fields).encode("utf-8", "surrogatepass"))


def _add_field(given: Record, chance: random.Random) -> Record:
    names = ("surprise", "deadline", "priority", "tenant", "idempotency_key", "lane", "__class__", "")
    fields = _fields(given) | {chance.choice(names): chance.choice(_ODD)}
    return replace(given, value=json.dumps(fields, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass"))


def _fields(given: Record) -> dict[str, Any]:
    try:
        found = json.loads(given.value or b"")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


_MUTATIONS = (_flip, _cut, _drop_header, _change_header, _repeat_header, _repeat_key, _swap_type, _add_field)

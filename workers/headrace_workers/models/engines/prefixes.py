"""Shared prefixes of prompts, such as a long system prompt: which are computed once, and which of them are kept.

CTranslate2 computes a `static_prompt` once for all rows of a batch, and keeps the result where it is asked to: until
the model is unloaded, since it lets go of nothing. So a beginning is kept when it was seen often enough, and only so
many are, and so many tokens of all together; every other is computed once for each batch.

Nothing that was computed for one tenant is used for another, who could tell from the time that it was there: each has
its own count, and what two of them begin with is kept twice.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import takewhile
from typing import Any, Final, NamedTuple

from headrace_schemas import Message
from headrace_schemas.tool import NO_TOOLS, Offer
from headrace_workers.models.generator import Request
from headrace_workers.models.structured.tools import as_json, described, size_of

LEAST_TOKENS: Final = 128  # of a beginning: fewer cost less than a batch that is cut in two for them
_LEAST_CHARS: Final = 2 * LEAST_TOKENS  # of a system prompt that may have so many; most have twice as many
FEWEST: Final = 4  # prompts of one call that make it worth a batch of their own, where nothing is kept
OFTEN: Final = 16  # prompts that were seen, before what they begin with is kept
MOST_KEPT: Final = 8
MOST_TOKENS: Final = 2_048  # of all that are kept: 280 MB of SmolLM2, half a megabyte a token of a model of 7B
_REMEMBERED: Final = 1_024  # beginnings that are counted


@dataclass(frozen=True, slots=True, eq=False)
class Beginning:
    """The tokens that a batch's prompts all begin with, and whether what is computed of them is kept."""

    tokens: tuple[str, ...] = ()
    kept: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """Options for CTranslate2."""
        return {"static_prompt": list(self.tokens), "cache_static_prompt": self.kept} if self.tokens else {}


NONE: Final = Beginning()


class Head(NamedTuple):
    """The system prompt that a conversation begins with, and the tools that its model is offered."""

    system: tuple[Message, ...]
    offer: Offer = NO_TOOLS


def head_of(messages: Sequence[Message], offer: Offer = NO_TOOLS) -> Head | None:
    """Return the head of a conversation where it is long enough to be shared."""
    if not offer and (not messages or messages[0].role != "system"):
        return None
    system = tuple(takewhile(lambda message: message.role == "system", messages))
    size = sum(len(message.content) for message in system)
    return Head(system, offer) if size >= _LEAST_CHARS or size + size_of(offer.tools) >= _LEAST_CHARS else None


def digest_of(tenant: str, messages: Sequence[Message], offer: Offer = NO_TOOLS) -> int | None:
    """Return 64 signed bits that are the same for all conversations of a tenant with one long head; None for others."""
    head = head_of(messages, offer)
    return None if head is None else _digest(tenant, head)


def common(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    """Return the tokens that both begin with."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    return tuple(token for token, _ in same)


class Prefixes:
    """The beginnings that a loaded model has seen, and those that it keeps. Thread-safe.

    `begin` gives the tokens that every conversation with this system prompt and these tools begins with; at most
    `most_tokens` of all are kept, 0: nothing is shared.
    """

    def __init__(
        self, begin: Callable[[tuple[Message, ...], Offer], tuple[str, ...]], *, most_tokens: int = MOST_TOKENS
    ) -> None:
        self._begin = begin
        self._most_tokens = most_tokens
        self._lock = threading.Lock()
        self._seen: OrderedDict[Hashable, int] = OrderedDict()
        self._kept: dict[Hashable, Beginning] = {}
        self._all_kept: set[tuple[str, ...]] = set()  # also what nobody has any more: it is never let go of

    def of(self, requests: Sequence[Request], tokens: Sequence[Sequence[str]]) -> list[Beginning]:
        """Return the prefix of each request's tokens that is to be computed once.

        Requests that share one get the same value.
        """
        beginnings = [NONE] * len(requests)
        groups: dict[Hashable, tuple[Head, list[int]]] = {}
        for index, request in enumerate(requests if self._most_tokens else ()):
            head = head_of(request.messages, request.offer)
            if request.tenant is not None and head is not None:
                name: Hashable = (request.tenant, _digest(request.tenant, head))
                groups.setdefault(name, (head, []))[1].append(index)
        for name, (head, members) in groups.items():
            beginning = self._shared(name, head, tokens[members[0]], len(members))
            length = len(beginning.tokens)
            for index in members:
                # A template may write something else for one conversation than for another: that one runs whole.
                if tuple(tokens[index][:length]) == beginning.tokens and len(tokens[index]) > length:
                    beginnings[index] = beginning
        return beginnings

    def _shared(self, name: Hashable, head: Head, like: Sequence[str], rows: int) -> Beginning:
        with self._lock:
            kept = self._kept.get(name, NONE)
            if kept.tokens and tuple(like[: len(kept.tokens)]) == kept.tokens:
                return kept
            seen = self._see(name, rows)
        if rows < FEWEST and seen < OFTEN:
            return NONE
        tokens = self._begin(*head)
        if len(tokens) < LEAST_TOKENS:
            return NONE
        with self._lock:
            if seen >= OFTEN and (beginning := self._keep(name, tokens)):
                return beginning
        return Beginning(tokens) if rows >= FEWEST else NONE

    def _see(self, name: Hashable, rows: int) -> int:
        """Count these; how often it was seen before."""
        before = self._seen.pop(name, 0)
        self._seen[name] = min(before + rows, OFTEN)
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return before

    def _keep(self, name: Hashable, tokens: tuple[str, ...]) -> Beginning | None:
        known = self._kept.get(name, NONE)
        if known.tokens and known.tokens == tokens[: len(known.tokens)]:
            return known  # another thread was quicker
        while tokens in self._all_kept:  # by another tenant: one token less is another one to CTranslate2
            tokens = tokens[:-1]
        room = self._most_tokens - sum(map(len, self._all_kept))
        if not LEAST_TOKENS <= len(tokens) <= room or len(self._all_kept) >= MOST_KEPT:
            return None
        self._all_kept.add(tokens)
        beginning = self._kept[name] = Beginning(tokens, kept=True)
        return beginning


def _digest(tenant: str, head: Head) -> int:
    digest = blake2b(tenant.encode(), digest_size=8)
    for message in head.system:
        digest.update(b"\0" + message.content.encode())
    for tool in head.offer.tools:
        digest.update(b"\1" + as_json(described(tool)).encode())
    return int.from_bytes(digest.digest(), "big", signed=True)

"""Prompts that screening let pass: of a conversation that continues, only new turns are screened."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final

from headrace_schemas import Message

_MOST: Final = 50_000  # digests, of 32 bytes each


def always() -> object:
    """Return the same value each time, for a policy that never changes."""
    return None


class SeenPrompts:
    """The parts of conversations that passed, by digests of a tenant and its turns from the first on. Thread-safe.

    Nobody can say so of a text: only what this process itself let pass is known. `standing` is another object from when
    on the policy, or a file that it names, is another: from then on nothing is known any more.
    """

    def __init__(self, standing: Callable[[], object] = always) -> None:
        self._standing = standing
        self._held = standing()
        self._passed: OrderedDict[bytes, None] = OrderedDict()
        self._lock = threading.Lock()

    def now(self) -> object:
        """Return the policy in force: give it to `note` with a conversation that passed by it."""
        held = self._standing()
        with self._lock:
            if held is not self._held:
                self._held = held
                self._passed.clear()
        return held

    def new(self, tenant: str, turns: Sequence[Message]) -> Sequence[Message]:
        """Return the turns to look at: those after the longest prefix that has passed, and its last, since words may go
        on from one turn to the next.
        """
        digests = _digests(tenant, turns)
        with self._lock:
            passed = next((n for n in range(len(turns), 0, -1) if digests[n - 1] in self._passed), 0)
        return turns[max(0, passed - 1) :]

    def note(self, held: object, tenant: str, turns: Sequence[Message]) -> None:
        """Record that this conversation passed by the policy `held`."""
        if not turns:
            return
        digest = _digests(tenant, turns)[-1]
        with self._lock:
            if held is not self._held:
                return
            self._passed[digest] = None
            self._passed.move_to_end(digest)
            while len(self._passed) > _MOST:
                self._passed.popitem(last=False)


def _digests(tenant: str, turns: Sequence[Message]) -> list[bytes]:
    """Return the digest of each prefix of a conversation."""
    found = []
    digest = sha256(tenant.encode()).digest()
    for turn in turns:
        called = (call.arguments.encode() for call in turn.tool_calls)
        digest = sha256(b"\0".join((digest, turn.role.encode(), turn.content.encode(), *called))).digest()
        found.append(digest)
    return found

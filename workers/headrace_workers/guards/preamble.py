"""What two questions begin with in the same words, such as an instruction that a service puts before each."""

from collections.abc import Sequence

from headrace_workers.guards.profile import Profile
from headrace_workers.guards.tokens import Token


def without_preamble(asked: Profile, cached: Profile) -> tuple[Sequence[Token], Sequence[Token]]:
    """The tokens of each from the first sentence on that is not the same in both; all where the first differs."""
    at = 0
    for place, (one, other) in enumerate(zip(asked.tokens, cached.tokens, strict=False)):
        if one.starts and other.starts:
            at = place
        if one.key != other.key:
            break
    return asked.tokens[at:], cached.tokens[at:]

"""The common beginning of two questions, such as an instruction that a service puts before each."""

from headrace_workers.features.cache.guards.profile import Profile, read_once


def preamble(asked: Profile, cached: Profile) -> int:
    """Return how many tokens precede the first sentence that differs; 0 where that is the first."""
    at = 0
    if not (_has_several(asked) and _has_several(cached)):
        return at
    for place, (one, other) in enumerate(zip(asked.tokens, cached.tokens, strict=False)):
        if one.starts and other.starts:
            at = place
        if one.key != other.key:
            break
    return at


@read_once
def _has_several(read: Profile) -> bool:
    """Return True if there is more than one sentence."""
    return any(token.starts for token in read.tokens[1:])

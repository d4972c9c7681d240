"""Names: words with a capital inside a sentence, acronyms, and words in other scripts."""

from collections import Counter
from typing import Final

from headrace_workers.guards.profile import Profile, read_once, said, says_what

_NOTHING: Final = Counter[str]()


class Names:
    """Refuses another name. One that the other question writes without its capital is the same."""

    name = "names"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Why not, in words; None where all names stand in both questions."""
        ours, theirs = _missing(asked, cached), _missing(cached, asked)
        if not ours and not theirs:
            return None
        return f"asks about {said(ours, asked)}; the answer is about {said(theirs, cached)}"


def _missing(read: Profile, other: Profile) -> list[str]:
    return sorted(named - other.content) if (named := _named(read)) else []


@read_once
def _named(read: Profile) -> Counter[str]:
    named = [token.key for token in read.tokens if token.name and not token.starts and says_what(token)]
    return Counter(named) if named else _NOTHING

"""Names: words with a capital inside a sentence, acronyms, and words in other scripts."""

from collections import Counter

from headrace_workers.features.cache.guards.profile import Profile, counted, in_words, is_content, read_once


class Names:
    """Refuses another name. One that the other question writes without its capital is the same."""

    name = "names"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where all names stand in both questions."""
        ours, theirs = _missing(asked, cached), _missing(cached, asked)
        if not ours and not theirs:
            return None
        return f"asks about {in_words(ours, asked)}; the answer is about {in_words(theirs, cached)}"


def _missing(read: Profile, other: Profile) -> list[str]:
    return sorted(named - other.content) if (named := _named(read)) else []


@read_once
def _named(read: Profile) -> Counter[str]:
    return counted([token.key for token in read.tokens if token.name and not token.starts and is_content(token)])

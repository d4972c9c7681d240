"""Literals, which count letter by letter: quotations, code, identifiers, addresses, file names, and signs."""

from collections import Counter

from headrace_workers.features.cache.guards.profile import Profile, counted, in_words, of_kinds, read_once


class Literals:
    """Refuses another literal, and other words within quotation marks."""

    name = "literals"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where all literals agree, in any order."""
        if asked.quoted and cached.quoted and Counter(asked.quoted) != Counter(cached.quoted):
            return f"quotes {in_words(asked.quoted)}; the answer is for {in_words(cached.quoted)}"
        ours, theirs = _missing(asked, cached), _missing(cached, asked)
        if not ours and not theirs:
            return None
        return f"asks about {in_words(ours, asked)}; the answer is about {in_words(theirs, cached)}"


def _missing(read: Profile, other: Profile) -> list[str]:
    return sorted(exact - other.content) if (exact := _exact(read)) else []


@read_once
def _exact(read: Profile) -> Counter[str]:
    kinds = of_kinds(read)
    return counted([*kinds.get("literal", ()), *kinds.get("symbol", ())])

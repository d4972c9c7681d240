"""Literals, which count letter by letter: quotations, code, identifiers, addresses, file names, and signs."""

from collections import Counter

from headrace_workers.features.cache.guards.profile import Profile, counted, of_kinds, read_once, said


class Literals:
    """Refuses another literal, and other words within quotation marks."""

    name = "literals"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where all literals agree, in any order."""
        if asked.quoted and cached.quoted and Counter(asked.quoted) != Counter(cached.quoted):
            return f"quotes {said(asked.quoted)}; the answer is for {said(cached.quoted)}"
        ours, theirs = _missing(asked, cached), _missing(cached, asked)
        if not ours and not theirs:
            return None
        return f"asks about {said(ours, asked)}; the answer is about {said(theirs, cached)}"


def _missing(read: Profile, other: Profile) -> list[str]:
    return sorted(exact - other.content) if (exact := _exact(read)) else []


@read_once
def _exact(read: Profile) -> Counter[str]:
    kinds = of_kinds(read)
    return counted([*kinds.get("literal", ()), *kinds.get("symbol", ())])

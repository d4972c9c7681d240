"""Quantifiers: all, some, none, only, at least, at most, exactly; always, sometimes."""

from collections import Counter
from typing import Final

from headrace_workers.features.cache.guards.profile import Profile, counted, in_words, read_once

_CLASSES: Final = {
    word: said
    for said, words in {
        "all": "all every each everybody everyone everything entire whole",
        "some": "some certain",
        "most": "mostly majority",
        "few": "few several",
        "many": "many numerous various",
        "only": "only sole solely alone merely",
        "both": "both",
        "either": "either",
        "half": "half",
        "at least": "atleast minimum",
        "at most": "atmost maximum",
        "more than": "morethan",
        "less than": "lessthan",
        "about": "approximately roughly approx",
        "always": "always",
        "sometimes": "sometimes occasionally often frequently",
    }.items()
    for word in words.split()
}
_NAMED: Final = frozenset(_CLASSES)


class Quantifiers:
    """Refuses another quantity: what holds for some need not hold for all."""

    name = "quantifiers"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where the same quantities are named."""
        ours, theirs = _quantifiers(asked), _quantifiers(cached)
        if ours is theirs or ours == theirs:  # most questions name none, and share that
            return None
        return f"asks about {in_words(sorted(ours - theirs))}; the answer is for {in_words(sorted(theirs - ours))}"


@read_once
def _quantifiers(read: Profile) -> Counter[str]:
    if read.words.isdisjoint(_NAMED):
        return counted(())
    found = []
    before = ""
    for token in read.tokens:
        # In `how many` the quantity is what is asked for.
        quantifier = _CLASSES.get(token.text.lower()) or _CLASSES.get(token.key)
        if quantifier is not None and token.kind == "word" and before != "how":
            found.append(quantifier)
        before = token.key
    return counted(found)

"""Opposites: open and closed, before and after, enable and disable."""

from typing import Final

from headrace_workers.features.cache.guards.opposites import opposite
from headrace_workers.features.cache.guards.profile import Profile, in_words, of_kinds, read_once

_COMPARED: Final = 60  # words on each side; more than these are refused as unmatched words anyhow


class Antonyms:
    """Refuses where a word in one question has its opposite in the other."""

    name = "antonyms"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where no word has its opposite on the other side."""
        ours, theirs = _words(asked), _words(cached)
        if "sell" in ours and "sell" in theirs and _is_sold(asked) != _is_sold(cached):
            return "one question asks where something is sold, the other where to sell it"
        yours = [word for word in theirs if word not in ours][:_COMPARED]
        for one in [word for word in ours if word not in theirs][:_COMPARED]:
            for other in yours:
                if opposite(one, other):
                    return f"{in_words([one], asked)} is the opposite of {in_words([other], cached)}"
        return None


def _is_sold(read: Profile) -> bool:
    """Return True if something is sold: `where are stamps sold` asks where to buy them."""
    return any(token.text.lower() == "sold" for token in read.tokens) and "be" in read.keys


@read_once
def _words(read: Profile) -> dict[str, None]:
    return dict.fromkeys(of_kinds(read).get("word", ()))

"""Negation: not, never, without, and a prefix or ending that turns a word into its opposite."""

from typing import Final

from headrace_workers.features.cache.guards.affixes import denies
from headrace_workers.features.cache.guards.profile import Profile, in_words, of_kinds, read_once
from headrace_workers.features.cache.guards.word_lists import words_of

DENIALS: Final = words_of(
    """not never no none neither nor without nobody nothing nowhere hardly barely rarely seldom lack lacking
    except false"""
)


class Negation:
    """Refuses where one question denies more often than the other; `not safe` and `unsafe` deny equally."""

    name = "negation"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where both deny, or neither."""
        ours, theirs = _denials(asked, cached), _denials(cached, asked)
        if len(ours) == len(theirs):
            return None
        mine, other = in_words(ours, asked), in_words(theirs, cached)
        return f"denies with {mine}; the answer is for a question that denies with {other}"


def _denials(read: Profile, other: Profile) -> list[str]:
    turned = [key for key in read.content if key not in other.content and denies(key, other.content)]
    # `non` stands alone before what it denies: the tokens of `non-refundable` are two.
    return [*_denying(read), *turned, *["non"] * read.content.get("non", 0)]


@read_once
def _denying(read: Profile) -> list[str]:
    return [key for key in of_kinds(read).get("word", ()) if key in DENIALS]

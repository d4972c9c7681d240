"""Numbers, in order: `two` is `2`, and `1,500.0` is `1500`."""

from itertools import pairwise

from headrace_workers.features.cache.guards.profile import Profile, in_words, of_kinds, read_once
from headrace_workers.features.cache.guards.tokens import Token


class Numbers:
    """Refuses other numbers, and the same numbers in another order."""

    name = "numbers"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where all numbers agree in order."""
        ours, theirs = _numbers(asked), _numbers(cached)
        # `one egg` is `an egg`, and `one` may be anybody; `2 years or 1 year` is another order.
        if sorted(ours) != sorted(theirs) and "1" in (*ours, *theirs):
            ours, theirs = _without_articles(asked), _without_articles(cached)
        return (
            None
            if ours == theirs
            else f"asks with the numbers {in_words(ours, asked)}; the answer is for {in_words(theirs, cached)}"
        )


def _numbers(read: Profile) -> list[str]:
    return of_kinds(read).get("number", [])


@read_once
def _without_articles(read: Profile) -> list[str]:
    return [
        token.key
        for token, after in pairwise((*read.tokens, None))
        if token is not None and token.kind == "number" and not _is_article(token, after)
    ]


def _is_article(token: Token, after: Token | None) -> bool:
    """Return True for a number that is an article: `one egg` is `an egg`, `1 kg` is `a kilo`; `type 1` is not
    `type`.
    """
    return token.text.lower() == "one" or (token.key == "1" and after is not None and after.kind == "unit")

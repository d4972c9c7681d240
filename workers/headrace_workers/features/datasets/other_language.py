"""The language of a text, by the small words that make up a third of it: rough, and enough to sort by."""

from typing import Final

from headrace_workers.features.cache.guards.words import words_of

SMALL_WORDS: Final = {
    "de": words_of(
        """der die das und ist nicht ein eine zu den mit von für auf sich dem des im es auch wie ich wir sie er"""
    ),
    "en": words_of(
        """the of and to in is that it for was on are with as be at by this have from or not but what which you"""
    ),
    "es": words_of(
        """el la los las de que y en un una es por con no para se su al lo como más pero del sus le ya este"""
    ),
    "fr": words_of(
        """le la les de des et en un une est que qui pour dans pas sur par au avec ce il elle je nous vous du"""
    ),
    "it": words_of(
        """il la le di che e un una è per con non in del della si al dei sono come più ma anche lo gli nel"""
    ),
    "nl": words_of(
        """de het een en van is dat in op te zijn met voor niet die aan er om ook als maar bij nog uit hij ze"""
    ),
    "pt": words_of(
        """o a os as de que e em um uma é por com não para se do da no na ao mais como mas foi ele das dos"""
    ),
}
_LEAST_WORDS: Final = 8  # of a text of fewer nothing is said
_LEAST_SHARE: Final = 0.08


def other_language(text: str, language: str) -> str | None:
    """Return why a text is not in this language (a key of SMALL_WORDS); None where it is, or it is unclear."""
    words = [word.strip(".,;:!?()[]\"'«»").casefold() for word in text.split()]
    if len(words) < _LEAST_WORDS:
        return None
    shares = {name: sum(word in small for word in words) / len(words) for name, small in SMALL_WORDS.items()}
    best = max(shares, key=lambda name: shares[name])
    if shares[language] >= max(_LEAST_SHARE, shares[best]):
        return None
    small = f"{shares[language]:.0%} of its words are small words of {language}"
    if shares[best] < _LEAST_SHARE:
        return f"{small}, and hardly any of another language that is known here"
    return f"it looks like {best}: {small}, {shares[best]:.0%} are of {best}"

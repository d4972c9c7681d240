"""One form for the forms of a word: plural, tense, spelling. Light, so that different words seldom meet in one stem."""

import re
from functools import lru_cache
from typing import Final

from headrace_workers.features.cache.guards.small_words import EMPTY_OR_SMALL
from headrace_workers.features.cache.guards.word_lists import lines_of, words_of

_FORMS: Final = {form: forms[0] for line in lines_of("irregular") for forms in [line.split()] for form in forms}
PARTICIPLES: Final = words_of(
    """written sung eaten seen taken given gotten made become begun broken brought built bought caught chosen
    cut drawn drunk driven fallen fed felt fought found flown forgotten frozen grown heard hidden hit held
    kept known laid led lent let lost meant met paid put read ridden rung risen run said sold sent set
    shaken shot shown shut sunk slept spoken spent spread stolen stuck struck taught torn told thought
    thrown understood woken worn won done"""
)
_SHORT: Final = re.compile("[^aeiou][aeiou][^aeiouwxy]")
_KEPT: Final = words_of(
    """this his its thus plus gas bus yes news lens series species during string spring thing nothing something
    anything everything king ring wing bring morning evening bed red need feed seed speed weed deed indeed
    hundred sacred wedding building sibling ceiling united united kingdom mathematics physics economics
    politics always perhaps status virus campus census bonus chaos atlas analysis basis crisis diabetes
    kindred bleed breed exceed succeed proceed plane plate stage state scare stare spine slide slime stripe
    twine white prime grade paste caste tense dense corpse lapse cleanse morale humane urbane locale bathe
    breathe clothe course horse browse tease rationale twine"""
)


@lru_cache(maxsize=16_384)
def stem(word: str) -> str:
    """Return the stem of a word in lower case: `cities` and `city`, `colours` and `color`, `running` and `run` share
    one.
    """
    if word in _FORMS:
        return _FORMS[word]
    if len(word) > 40 or len(word) < 4 or word in _KEPT or word in EMPTY_OR_SMALL or not word.isascii():
        return word
    return _spelling(_bare(word))


def _bare(word: str) -> str:
    if word.endswith(("ies", "ied")):
        return word[:-3] + "y" if len(word) > 4 else word
    if word.endswith("ie") and len(word) > 4:
        return word[:-2] + "y"  # movie(s), cookie(s)
    if word.endswith(("sses", "xes", "ches", "shes", "zes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return _open(word[:-1])
    ending = next((ending for ending in ("ing", "ed") if word.endswith(ending)), "")
    root = word.removesuffix(ending)
    if ending and len(root) >= 3 and any(letter in "aeiouy" for letter in root):
        return _root(root)
    return _open(word)


def _root(root: str) -> str:
    """Return the root of a verb from the part before its `ing` or `ed`."""
    if _SHORT.fullmatch(root):
        return root + "e"  # bak(ing), cod(ing)
    if len(root) > 3 and root[-1] == root[-2] and root[-1] not in "lsz":
        return root[:-1]  # runn(ing)
    return _open(root)


def _open(word: str) -> str:
    """Return the word without a silent e, so that `increase` and `increas(ing)`, `use` and `us(ed)` agree; and with one
    l.
    """
    if len(word) > 4 and word.endswith("e") and not word.endswith(("ee", "ie", "oe", "ye")):
        return word[:-1]
    if len(word) > 5 and word.endswith("ll"):
        return word[:-1]
    return word


def _spelling(word: str) -> str:
    """Return one spelling for American and British words."""
    if word.endswith("our") and len(word) > 5:
        return word[:-3] + "or"
    if word.endswith("is") and len(word) > 6:
        return word[:-1] + "z"  # organis(e), organiz(e)
    if word.endswith("isation"):
        return word[:-7] + "ization"
    if word.endswith("tr") and len(word) > 4:
        return word[:-1] + "er"  # centr(e), theatr(e)
    return {"gray": "grey", "tyr": "tire", "defenc": "defens", "licenc": "licens", "catalogu": "catalog"}.get(
        word, word
    )

"""English words: their classes, stems, opposites and paraphrases."""

import re
from collections.abc import Container
from functools import lru_cache
from importlib.resources import files
from typing import Final


def words_of(text: str) -> frozenset[str]:
    """Return the words of a text, separated by white space."""
    return frozenset(text.split())


def lines_of(name: str, package: str = "headrace_workers.text") -> list[str]:
    """Return the lines of a package's `lists/NAME.txt`, without empty lines and comments (#)."""
    text = files(package).joinpath("lists", f"{name}.txt").read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


ARTICLES: Final = words_of("a an the")
DETERMINERS: Final = ARTICLES | words_of("my your our this that their")
BE: Final = words_of("am is are was were be been being")
AUXILIARIES: Final = BE | words_of(
    "do does did doing done has have had having can could will would shall should may might must ought"
)
# Words that deny a statement.
DENIALS: Final = words_of(
    """not never no none neither nor without nobody nothing nowhere hardly barely rarely seldom lack lacking
    except false"""
)
QUESTION_WORDS: Final = words_of("what which who whom whose when where why how whether")
NEGATED: Final = {"can't": "can", "cannot": "can", "won't": "will", "shan't": "shall"}
# After `how`, what is asked for.
MEASURES: Final = words_of("many much long often far old big tall fast deep high soon large wide heavy hot late")
CONJUNCTIONS: Final = words_of("and or nor but vs versus")
PREPOSITIONS: Final = words_of(
    """of in on at for by with without from to into onto than before after above below over under until till
    since during against toward towards off up down out about inside outside through across between among
    via per beyond within near behind beside upon as like unlike except despite around along"""
)
PRONOUNS: Final = words_of(
    """i me my mine myself you your yours yourself we us our ours he him his she her hers it its they them
    their theirs this that these those there here one someone somebody anyone anybody something anything
    everyone everything"""
)
# Said or left out, a question asks the same.
EMPTY: Final = words_of(
    """please kindly thanks hello hi hey dear ok okay just actually really simply basically exact exactly
    so then also too very quite much such own let currently now nowadays
    presently if while because although though etc ever precisely specifically
    generally typically usually normally tell"""
)
EMPTY_OR_SMALL: Final = (
    ARTICLES
    | AUXILIARIES
    | QUESTION_WORDS
    | CONJUNCTIONS
    | PREPOSITIONS
    | PRONOUNS
    | EMPTY
    | words_of("'s not be have")
)


_FORMS: Final = {form: forms[0] for line in lines_of("irregular") for forms in [line.split()] for form in forms}
PARTICIPLES: Final = words_of(
    """written sung eaten seen taken given gotten made become begun broken brought built bought caught chosen
    cut drawn drunk driven fallen fed felt fought found flown forgotten frozen grown heard hidden hit held
    hurt kept known laid led lent let lost meant met paid put read ridden rung risen run said sold sent set
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


# Prefixes and endings that turn a word into its opposite.

_DENYING_PREFIXES: Final = ("un", "in", "im", "il", "ir", "non", "dis", "de", "mis", "anti")
_DENYING_ENDINGS: Final = ("less", "free")


def denies(key: str, plain: Container[str]) -> bool:
    """Return True if a stem is one of the plain stems with such a prefix or ending."""
    if not (key.startswith(_DENYING_PREFIXES) or key.endswith(_DENYING_ENDINGS)):
        return False
    return any(key.startswith(prefix) and _stands(key[len(prefix) :], plain) for prefix in _DENYING_PREFIXES) or any(
        key.endswith(ending) and _stands(key[: -len(ending)], plain) for ending in _DENYING_ENDINGS
    )


def _stands(rest: str, plain: Container[str]) -> bool:
    return len(rest) > 2 and (rest in plain or rest + "e" in plain)


_SIDES: Final[dict[str, set[tuple[int, int]]]] = {}
for _number, _line in enumerate(lines_of("opposites")):
    for _side, _words in enumerate(_line.split("|")):
        for _word in _words.split():
            _SIDES.setdefault(stem(_word), set()).add((_number, _side))


def opposite(one: str, other: str) -> bool:
    """Return True if two stems are opposites."""
    sides = _SIDES.get(other)
    return sides is not None and any((number, 1 - side) in sides for number, side in _SIDES.get(one, ()))


_OF: Final[dict[str, frozenset[int]]] = {}
for _number, _group in enumerate(lines_of("paraphrases")):
    for _one in _group.split():
        _OF[stem(_one)] = _OF.get(stem(_one), frozenset()) | {_number}

_NONE: Final[frozenset[int]] = frozenset()
_SUFFIXES: Final = words_of("""e y s es ies ing ed ion ation ition at ment ance ence ly ity ness ful al ally""")
# Endings of words of one root: decide and decision, frequent and frequency, toxic and toxicity.
_ENDINGS: Final = frozenset(
    frozenset(pair.split())
    for pair in ("t cy", "t ce", "te cy", "d sion", "de sion", "t sion", "t ssion", "able ability", "abl ability",
                 "ible ibility", "ibl ibility", "fy fication", "e al", "ous ity", "ic icity", "y ies")
)  # fmt: skip


def alike(one: str, other: str) -> bool:
    """Return True if two stems ask for the same: they share a group, or differ by an ending that changes no meaning."""
    return bool(_OF.get(one, _NONE) & _OF.get(other, _NONE)) or _near(one, other)


def _near(one: str, other: str) -> bool:
    shorter, longer = sorted((one, other), key=len)
    root = shorter[:-1] if shorter[-1] in "ey" else shorter
    if longer.startswith(root) and longer[len(root) :] in _SUFFIXES:
        return len(root) >= (4 if longer[len(root) :] in {"ful", "ly", "ness", "ment"} else 5)
    shared = next((at for at, (mine, yours) in enumerate(zip(one, other, strict=False)) if mine != yours), len(shorter))
    return shared >= 4 and frozenset((one[shared:], other[shared:])) in _ENDINGS

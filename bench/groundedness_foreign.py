"""Documents that nobody here wrote, sentences that they support, and what a seeded rule makes of each.

The documents are of six domains. A supported sentence is one of the document, changed as answers change what
they quote:
what stands in brackets and a relative clause at the end are left out, a phrase at the beginning goes to the end,
small numbers in figures become words and the other way, `is not` becomes `isn't`. No person has reworded them.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from random import Random
from typing import Final

from bench.foreign_packages import debian, wheel

SUPPORTED: Final = "supported"
NUMBER: Final = "number nowhere in the document"
NUMBER_ELSEWHERE: Final = "number of another thing in it"
NAME: Final = "name nowhere in the document"
NAME_ELSEWHERE: Final = "name of another thing in it"
DENIAL: Final = "denial"
ROLES: Final = "roles swapped"
INVENTED: Final = "invented within the topic"
OTHER: Final = "of another topic"
CHANGED: Final = (NUMBER, NUMBER_ELSEWHERE, NAME, NAME_ELSEWHERE, DENIAL, ROLES, INVENTED, OTHER)

_SENTENCES: Final = 10  # of a document
_LEAST_SENTENCES: Final = 6
_CLAIMS: Final = 4  # of them
_OF_DOMAIN: Final = 60  # documents
_MOST: Final = 200  # sentences of a kind; twice as many supported ones
_WORDS: Final = [
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
]
_NUMBER: Final = re.compile(r"(?<![\w.,$-])\d[\d,.]*\d(?![\w-])|(?<![\w.,$-])\d(?![\w.,-])")
_SMALL: Final = re.compile(rf"(?<![\w-])({'|'.join(_WORDS)})(?![\w-])")
_NAME: Final = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{2,}(?: [A-Z][a-z]+){0,2}\b")
_AUXILIARY: Final = re.compile(r"\b(is|are|was|were|has|have|had|can|may|must|could|will|should)\b(?! not|n't)")
_DENIED: Final = re.compile(r"\b(is|are|was|were|has|have|had|can|may|must|could|will|should|does|do|did) not\b")


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence about a document, and its kind; documents are numbered."""

    document: int
    domain: str
    context: str
    claim: str
    kind: str


def pairs(seed: int = 0) -> list[Pair]:
    """All pairs, in the order of the documents."""
    random = Random(seed)
    documents = {domain: _drawn(read(), random) for domain, read in _DOMAINS.items()}
    every = [(domain, text) for domain, texts in documents.items() for text in texts]
    found: list[Pair] = []
    for number, (domain, lines) in enumerate(every):
        context = " ".join(lines)
        same = [line for other in documents[domain] if other is not lines for line in other if line not in context]
        far = [line for name, texts in documents.items() if name != domain for text in texts for line in text]
        names = sorted({name for line in same for name in _NAME.findall(line)})
        if len(names) < 5:
            names = sorted({name for line in far for name in _NAME.findall(line)})
        for line in random.sample(lines, _CLAIMS):
            claim = _reworded(line, random)
            found.append(Pair(number, domain, context, claim, SUPPORTED))
            found += [
                Pair(number, domain, context, changed, kind)
                for kind, changed in _changes(claim, context, names, random)
                if changed != claim
            ]
            found.append(Pair(number, domain, context, _reworded(random.choice(same), random), INVENTED))
            found.append(Pair(number, domain, context, _reworded(random.choice(far), random), OTHER))
    chosen: set[Pair] = set()
    for kind in (SUPPORTED, *CHANGED):
        of = [pair for pair in found if pair.kind == kind]
        chosen.update(random.sample(of, min(len(of), 2 * _MOST if kind == SUPPORTED else _MOST)))
    return [pair for pair in dict.fromkeys(found) if pair in chosen]


def _changes(claim: str, context: str, names: Sequence[str], random: Random) -> Iterator[tuple[str, str]]:
    numbers = [*_NUMBER.finditer(claim), *_SMALL.finditer(claim)]
    there = _NUMBER.findall(context)
    if numbers:
        match = random.choice(numbers)
        yield NUMBER, _instead(claim, match, _new_number(match.group(), context, random))
        others = [item for item in there if item not in claim and abs(len(item) - len(match.group())) <= 1]
        if others:
            yield NUMBER_ELSEWHERE, _instead(claim, match, random.choice(others))
    own = list(_NAME.finditer(claim))
    if own:
        match = random.choice(own)
        strange = [name for name in names if not any(word in context for word in name.split())]
        if strange:
            yield NAME, _instead(claim, match, random.choice(strange))
        others = [name for name in _NAME.findall(context) if name not in claim and match.group() not in name]
        if others:
            yield NAME_ELSEWHERE, _instead(claim, match, random.choice(others))
        last = own[-1]
        if len(own) > 1 and own[0].group() != last.group():
            between = claim[own[0].end() : last.start()]
            yield ROLES, claim[: own[0].start()] + last.group() + between + own[0].group() + claim[last.end() :]
    if _DENIED.search(claim):
        yield DENIAL, _DENIED.sub(r"\1", claim, count=1)
    elif _AUXILIARY.search(claim):
        yield DENIAL, _AUXILIARY.sub(r"\1 not", claim, count=1)


def _new_number(number: str, context: str, random: Random) -> str:
    """One of as many digits that the document has neither in figures nor in words."""
    lowered = context.lower()
    for _ in range(100):
        if not number[0].isdigit():
            new = random.choice(_WORDS)
            if new not in lowered and str(_WORDS.index(new) + 2) not in lowered:
                return new
            continue
        new = "".join(str(random.randint(1, 9)) if sign.isdigit() else sign for sign in number)
        word = _WORDS[int(new) - 2] if new.isdigit() and 2 <= int(new) <= 20 else new
        if new not in lowered and word not in lowered:
            return new
    return number


def _instead(claim: str, match: re.Match[str], new: str) -> str:
    return claim[: match.start()] + new + claim[match.end() :]


def _reworded(line: str, random: Random) -> str:
    line = re.sub(r" ?\([^()]*\)", "", line)
    shorter = re.sub(r", (?:which|who|where|whose) [^,]*\.$", ".", line)
    line = shorter if len(shorter.split()) >= 8 else line
    if begins := re.fullmatch(r"((?:In|At|On|After|Before|During|By|If|When|For) [^,.]{3,60}), (.+)\.", line):
        first, rest = begins.groups()
        if "," not in rest:
            line = f"{rest[0].upper()}{rest[1:]} {first[0].lower()}{first[1:]}."
    if random.random() < 0.5:
        line = re.sub(r"(?<![\w.,$-])([2-9]|1\d|20)(?= [a-z])", lambda at: _WORDS[int(at.group()) - 2], line)
    else:
        line = _SMALL.sub(lambda at: str(_WORDS.index(at.group()) + 2), line)
    return re.sub(r"\b(is|are|was|were|has|have|had|could|should|does|do|did) not\b", r"\1n't", line)


def _drawn(texts: Sequence[str], random: Random) -> list[list[str]]:
    """Stretches of ten sentences, six at least."""
    found = []
    for text in texts:
        lines = [line for line in _lines(text) if line]
        cut = [lines[start : start + _SENTENCES] for start in range(0, len(lines), _SENTENCES)]
        found += [group for group in cut if len(group) >= _LEAST_SENTENCES]
    return random.sample(found, min(_OF_DOMAIN, len(found)))


def _lines(text: str) -> list[str]:
    """Whole sentences of 8 to 45 words, without markup."""
    plain = re.sub(r"\s+", " ", text)
    cut = re.split(r"(?<=[a-z0-9)][.!?]) (?=[A-Z])", plain)
    return list(dict.fromkeys(item.strip() for item in cut if 8 <= len(item.split()) <= 45 and item.endswith(".")))


def _news() -> list[str]:
    path = wheel("gensim==4.4.0") / "gensim/test/test_data/lee_background.cor"
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


def _data_sets() -> list[str]:
    files = sorted((wheel("scikit-learn==1.9.1") / "sklearn/datasets/descr").glob("*.rst"))
    return [re.sub(r"[`*]|:\w+:", "", file.read_text(encoding="utf-8")) for file in files]


def _pages(folder: Path) -> list[str]:
    return [_plain(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.html"))]


def _plain(markup: str) -> str:
    paragraphs = re.findall(r"<(?:p|para|entry|li|dd)\b[^>]*>(.*?)</(?:p|para|entry|li|dd)>", markup, re.DOTALL)
    return unescape(" ".join(re.sub(r"<[^>]+>", "", paragraph) for paragraph in paragraphs))


def _programming() -> list[str]:
    return _pages(debian("python3.13-doc", "/usr/share/doc/python3.13/html") / "faq")


def _administration() -> list[str]:
    return _pages(debian("debian-policy", "/usr/share/doc/debian-policy") / "policy.html")


def _card_games() -> list[str]:
    files = sorted(debian("aisleriot", "/usr/share/help/C/aisleriot").glob("*.xml"))
    return [_plain(file.read_text(encoding="utf-8")) for file in files]


def _law() -> list[str]:
    folder = debian("base-files", "/usr/share/common-licenses")
    names = ["AGPL-3.0", "Apache-2.0", "Artistic", "CC-BY-4.0", "GFDL-1.3", "GPL-2", "LGPL-2.1", "MPL-1.1", "MPL-2.0"]
    return [(folder / name).read_text(encoding="utf-8") for name in names if (folder / name).exists()]


_DOMAINS: Final[Mapping[str, Callable[[], list[str]]]] = {
    "news": _news,
    "data sets of medicine, botany and trade": _data_sets,
    "programming": _programming,
    "system administration": _administration,
    "card games": _card_games,
    "licences": _law,
}

"""Guards of order: which way a preposition points, and who does what to whom."""

from collections import Counter
from itertools import combinations, pairwise
from typing import Final, NamedTuple

from headrace_workers.text.profile import Profile, in_words, is_content, preamble, read_once
from headrace_workers.text.tokens import Token
from headrace_workers.text.words import (
    AUXILIARIES,
    DETERMINERS,
    PARTICIPLES,
    PREPOSITIONS,
    PRONOUNS,
    QUESTION_WORDS,
    stem,
    words_of,
)

_WORDS: Final = frozenset(
    stem(word)
    for word in ("distance", "apart", "differ", "difference", "different", "distinguish", "compare", "versus", "vs")
)


def symmetric(asked: Profile, cached: Profile) -> bool:
    """Return True if both are such questions: `how far is A from B` is `the distance from B to A`."""
    return _either_way(asked) and _either_way(cached)


@read_once
def _either_way(read: Profile) -> bool:
    return not read.keys.isdisjoint(_WORDS) or {"how", "far"} <= read.keys


# Before the same word, one of the left is another way than one of the right; `""` is no preposition at all. All
# else may stand for each other: `a stain on`, `from`, `out of` the carpet.
_WAYS_APART: Final = tuple(
    (frozenset(one.split()), frozenset(other.split()))
    for one, other in (
        ("from off out", "to into onto toward towards"),
        ("before", "after during since until till within"),
        ("after since", "during until till within"),
        ("above over on upon onto", "below under underneath beneath"),
        ("in inside into within", "outside"),
        ("in inside within on", "under below behind beside near around opposite above across"),
        ("behind", "beside opposite above below near through across along"),
        ("beside near", "opposite above below"),
        ("with", "without against"),
        ("for", "against without"),
        ("by", "about for against to from without regard concern"),
        ("about regard concern", "to from with without for"),
        ("up", "down"),
        ("unlike", "like as"),
        ("except despite without against", "in on at with for by of about"),
        ("and", "or"),
        ("as", "with without by from to"),
    )
)
_LONE_APART: Final = words_of("from before after above below under without against except until since behind")
_JOINING: Final = frozenset({"and", "or", "between"})
_TO: Final = {"into": "to", "onto": "to", "toward": "to", "towards": "to"}
_WAYS: Final = PREPOSITIONS | {"and", "or", "regard", "concern"}
# In `before you cook it` and `before it is cooked`, cooking is reached by `before`.
_PASSED_OVER: Final = DETERMINERS | PRONOUNS | {"be"}


class Directions:
    """Refuses where the same word follows another preposition of direction, order or side."""

    name = "directions"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where each word is reached in the same direction."""
        if symmetric(asked, cached):
            return None
        if (sides := {_side(asked), _side(cached)}) == {"before", "after"}:
            return f"asks about {_side(asked)}; the answer is about {(sides - {_side(asked)}).pop()}"
        ours, theirs = _reached(asked), _reached(cached)
        ways = {word: (way, theirs[word]) for word, way in ours.items() if theirs.get(word, way) != way}
        if exchanged := _exchanged(asked, ways):
            return f"{in_words(exchanged, asked)} stand in other places in the answer"
        for word, (way, other) in ways.items():
            is_asked_for = other == _stranded(asked) or way == _stranded(cached)
            if is_asked_for or not _same(way, other) or _written_about(way, other, asked):
                name = in_words([word], asked)
                return f"asks about {way} {name}; the answer is about {other} {name}".replace("  ", " ")
        return None


def _exchanged(asked: Profile, reached: dict[str, tuple[str, str]]) -> list[str]:
    """Return words that have exchanged their prepositions, and names that all have other prepositions.

    `A string to a number`, `a number to a string`; `a German licence in Japan`, `a Japanese licence in Germany`.
    """
    moved = {word: ways for word, ways in reached.items() if not _JOINING.issuperset(ways)}
    if not moved:
        return []
    ways = set(moved.values())
    crossed = [word for word, (here, there) in moved.items() if (there, here) in ways]
    named = {token.key for token in asked.tokens if token.name and not token.starts}
    names = [word for word in moved if word in named]
    apart = len({moved[word] for word in names}) > 1  # the words of one name move together
    return crossed or (names if apart else [])


def _written_about(one: str, other: str, asked: Profile) -> bool:
    """Return True if one is `about`: `who wrote about Moby Dick` is not `who wrote Moby Dick`."""
    return "about" in {one, other} and not asked.keys.isdisjoint({"who", "whom"})


@read_once
def _side(read: Profile) -> str | None:
    """Return the one of `before` and `after` that a question has; None where it has both or neither."""
    sides = read.keys & {"before", "after"}
    return next(iter(sides)) if len(sides) == 1 else None


@read_once
def _stranded(read: Profile) -> str | None:
    """Return the preposition that a question ends with: it stands before what is asked for, as in `what is it for`."""
    last = read.tokens[-1] if read.tokens else None
    return _TO.get(last.key, last.key) if last is not None and last.key in PREPOSITIONS else None


def _same(one: str, other: str) -> bool:
    """Return True if two prepositions may mean the same before one word."""
    if not one or not other:
        return (one or other) not in _LONE_APART
    return not any((one in left and other in right) or (one in right and other in left) for left, right in _WAYS_APART)


@read_once
def _reached(read: Profile) -> dict[str, str]:
    """Return the preposition before each named thing, across articles and figures."""
    found: dict[str, str] = {}
    way = ""
    for token in read.tokens:
        if token.kind == "word" and token.key in _WAYS:
            way = _TO.get(token.key, token.key)
        elif token.kind in {"number", "date"}:
            continue
        elif is_content(token):
            found.setdefault(token.key, way)
            way = way if token.name else ""
        elif token.key not in _PASSED_OVER:
            way = ""
    return found


_ORDERED: Final = 48  # longer orders than this are held together as they stand: inversions cost the square
_LINKS: Final = frozenset({"and", "or", "between", "vs", "versus", ","})
# Words that nobody does anything to: `the boiling temperature`, `at what temperature does it boil`.
_NO_ROLE: Final = frozenset(
    stem(word)
    for word in words_of(
        """temperature age height length depth width weight size distance duration speed point level rate price cost
        amount number quantity count total time date day year place location sort kind type thing way method
        mean meaning definition explain describe define name list show give recommend suggest contain include
        need require necessary possible country city state"""
    )
)


class _Part(NamedTuple):
    """Something named: the word that ties its run to what came before, and the number of that run of words."""

    key: str
    tie: str
    run: int
    said: str
    verb: bool = False
    unit: bool = False


class Roles:
    """Refuses the same words in other roles: `from A to B` and `from B to A`, `A beats B` and `B beats A`."""

    name = "roles"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where what both name stands in the same roles."""
        people, others = _people(asked), _people(cached)
        if people and others and people != others:
            return f"asks about {in_words(people, asked)}; the answer is about {in_words(others, cached)}"
        if _named_alike(asked, cached) or symmetric(asked, cached):
            return None
        ours, theirs = _numbered(asked), _numbered(cached)
        common = {part.key for part in ours} & {part.key for part in theirs}
        mine, yours = [part for part in ours if part.key in common], [part for part in theirs if part.key in common]
        places = {part.key: index for index, part in enumerate(yours)}
        if all(places[one.key] < places[two.key] for one, two in pairwise(mine)):
            return None
        if len(mine) > _ORDERED:
            return "names the same things in another order"
        first_own = preamble(asked, cached)
        free = not (_role_asked(asked, first_own) or _role_asked(cached, first_own))
        verbs = {part.key for part in (*mine, *yours) if part.verb} if free else set()
        for first, second in combinations(range(len(mine)), 2):
            if mine[first].unit != mine[second].unit:
                continue  # nothing changes places with a unit but another: `in kilograms, how heavy is a cello`
            if mine[first].key in verbs or mine[second].key in verbs:
                continue  # where all that takes part is named, a verb may stand anywhere
            there = places[mine[second].key], places[mine[first].key]
            if there[0] < there[1] and not _may_swap(mine, (first, second), yours, there):
                return f"{mine[first].said} and {mine[second].said} have changed places"
        return None


# `she` acts; `him` and `his` do not.
_PEOPLE: Final = {
    word: words.split()[0] for words in ("he", "she", "him his himself", "her hers herself") for word in words.split()
}


@read_once
def _people(read: Profile) -> list[str]:
    """Return other persons by their pronouns, in no order, since clauses may change places: `does she owe him` is not
    `does he owe her`.
    """
    return sorted({_PEOPLE[token.key] for token in read.tokens if token.key in _PEOPLE})


def _named_alike(asked: Profile, cached: Profile) -> bool:
    """Return True if two plainly active sentences name their common things in the same order: most pairs are such."""
    ours, theirs = _plainly(asked), _plainly(cached)
    if ours is None or theirs is None:
        return False
    return [key for key in ours if key in cached.keys] == [key for key in theirs if key in asked.keys]


@read_once
def _plainly(read: Profile) -> list[str] | None:
    """Return the keys that `_parts` would name, where it would keep their order; None where it might change it."""
    passive = "be" in read.keys and ("by" in read.keys or any(_participle(token.text) for token in read.tokens))
    if "'s" in read.keys or passive:
        return None
    return [
        token.key for token in read.tokens if is_content(token) and not (token.kind == "word" and token.key in _NO_ROLE)
    ]


def _may_swap(mine: list[_Part], here: tuple[int, int], yours: list[_Part], there: tuple[int, int]) -> bool:
    """Return True if two parts (places in order, on either side) mean the same the other way round."""
    one, two = mine[here[0]], mine[here[1]]
    two_there, one_there = yours[there[0]], yours[there[1]]
    if _superlative(one) != _superlative(two):
        return True  # `the longest river`, `which river is the longest`
    if _moved(one, mine, one_there, yours) or _moved(two, mine, two_there, yours):
        return True
    if "be" in {one.tie, two.tie, one_there.tie, two_there.tie} and _neighbours(mine, *here):
        return True  # `A is the capital of which country`, `which country's capital is A`
    if not (_neighbours(mine, *here) and _neighbours(yours, *there)):
        return False
    if two.tie in _LINKS and one_there.tie in _LINKS:  # `A and B`, `B and A`
        return here[1] == here[0] + 1 and there[1] == there[0] + 1
    # `Paris weather`, `weather in Paris`; `a good exercise`, `which exercise is good`
    together, together_there = one.run == two.run, two_there.run == one_there.run
    return together != together_there and (one_there.tie if together else two.tie) in _APART


def _moved(part: _Part, mine: list[_Part], there: _Part, yours: list[_Part]) -> bool:
    """Return True if a phrase with a preposition, `in the straw hat`, has moved as a whole."""
    return (
        part.tie in PREPOSITIONS
        and (part.tie == there.tie or {part.tie, there.tie} <= _PLACES)
        and [one.key for one in mine if one.run == part.run] == [one.key for one in yours if one.run == there.run]
    )


@read_once
def _role_asked(read: Profile, first: int) -> bool:
    """Return True if a participant is asked for, from this token on: `what does it chase`, `what chases it`, `who
    chased it`.
    """
    tokens = read.tokens[first:]
    for at, token in enumerate(tokens):
        if token.key in {"who", "whom", "whose"}:
            return True
        if token.key in {"what", "which"}:
            after = [token.key for token in tokens[at + 1 : at + 5]]
            verb = next((index for index, key in enumerate(after) if key in AUXILIARIES or key == "be"), None)
            if verb is None or (verb == 0 and after[0] != "be"):
                return True
    return False


def _neighbours(parts: list[_Part], first: int, second: int) -> bool:
    """Return True if nothing is named between two parts except what belongs to them."""
    runs = {parts[first].run, parts[second].run}
    return all(part.run in runs for part in parts[first:second])


@read_once
def _numbered(read: Profile) -> list[_Part]:
    """Return the parts, with the second of a kind distinct from the first."""
    seen: Counter[str] = Counter()
    out = []
    for part in _parts(read):
        seen[part.key] += 1
        out.append(part._replace(key=f"{part.key}#{seen[part.key]}") if seen[part.key] > 1 else part)
    return out


_PLACES: Final = frozenset({"of", "in", "on", "at", "for", "within"})
_APART: Final = frozenset({"of", "in", "for", "on", "at", "with", "about", "to", "be"})


def _superlative(part: _Part) -> bool:
    return len(part.said) > 4 and part.said.endswith("est")


def _parts(read: Profile) -> list[_Part]:
    """Return the named things, in the order of an active sentence."""
    parts: list[_Part] = []
    tie, run, head = "", 0, 0  # `head`: the first part of this run
    bounds = [0]  # how many parts stood before each question word and auxiliary
    verb = by = -1
    owners = (0, 0)  # from where to where stand the parts that own what follows
    topic = 0  # so many parts stand before the question: `mac how to take a screenshot`
    be = doer = False
    for at, token in enumerate(read.tokens):
        key = token.key
        by_next = any(after.key == "by" for after in read.tokens[at + 1 : at + 2])
        acted = be and verb < 0 and by_next and token.text.lower().endswith("ed")
        if token.kind == "word" and key in _NO_ROLE:
            doer = False
        elif is_content(token) or acted:  # `is liked by`: `like` is a small word
            if acted or (be and verb < 0 and token.kind == "word" and _participle(token.text)):
                verb = len(parts)
            acts = token.kind == "word" and not token.name and (doer or _participle(token.text) or _ing(token))
            parts.append(_Part(key, tie, run, token.text, acts, token.kind == "unit"))
            doer = False
        elif token.kind != "word" or key in DETERMINERS:
            doer = False
        elif key == "'s":
            owners = (head, len(parts))
        else:
            _put_owners_last(parts, owners)
            owners = (0, 0)
            doer = key in _DOERS
            run += 1
            head = len(parts)
            predicate = key == "be" and not token.starts and len(parts) > bounds[-1]
            tie = key if key in PREPOSITIONS or key in _LINKS or predicate else ""
            if key == "by" and verb >= 0:
                by = len(parts)
            elif key in AUXILIARIES or key in QUESTION_WORDS:
                if len(bounds) == 1 and key in QUESTION_WORDS:
                    topic = len(parts)
                bounds.append(len(parts))
                be = be or key == "be"
    _put_owners_last(parts, owners)
    if len({part.run for part in parts[:topic]}) == 1:
        parts[:topic] = [part._replace(tie=part.tie or "on") for part in parts[:topic]]
    return _active(parts, verb, by, bounds) if verb >= 0 else parts


# After these comes a verb; phrases such as `how do I` are read as `how`.
_DOERS: Final = (PRONOUNS & words_of("i you we they one he she it")) | {"to", "how"}


def _participle(text: str) -> bool:
    word = text.lower()
    return word in PARTICIPLES or (word.endswith("ed") and len(word) > 4)


def _ing(token: Token) -> bool:
    return token.text.endswith("ing") and token.key != token.text.lower()


def _put_owners_last(parts: list[_Part], owners: tuple[int, int]) -> None:
    """Put `France's capital` in the order of `the capital of France`, in place. Owners get a run of their own."""
    first, end = owners
    if first < end:
        owning, things = parts[first:end], parts[end:]
        parts[first:] = [
            *(thing._replace(tie=owning[0].tie) for thing in things),
            *(owner._replace(tie="of", run=-owner.run - 1) for owner in owning),
        ]


def _active(parts: list[_Part], verb: int, by: int, bounds: list[int]) -> list[_Part]:
    """Return `B is beaten by A` in the order of `A beats B`. The subject of a passive stands last before its verb."""
    start = max(bound for bound in bounds if bound < verb) if verb else 0
    end = by if by > verb else len(parts)
    actor = [part._replace(tie="" if part.tie == "by" else part.tie) for part in parts[end:]]
    return [*parts[:start], *actor, parts[verb], *parts[start:verb], *parts[verb + 1 : end]]

"""Rules of a Lark grammar that never end. Pure.

llguidance compiles a rule such as `start: "a" start`, for which a model writes until its tokens end.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

_TOKENS: Final = re.compile(
    r"""
      (?P<skip>\s+(?!\S)|[ \t\r]+|//[^\n]*|\#[^\n]*)
    | (?P<line>\n\s*)
    | (?P<text>"(?:\\.|[^"\\\n])*"i?)
    | (?P<regex>/(?:\\.|[^/\\\n])+/[imslux]*)
    | (?P<special><[^>\n]*>)
    | (?P<json>%(?:json|regex|llguidance|lark)\s*\{)
    | (?P<directive>%\w+[^\n]*)
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<count>\{[^}\n]*\}|~\s*\d+(?:\s*\.\.\s*\d+)?)
    | (?P<mark>->|[?*+|()\[\]:.!&,=~]|\d+)
    """,
    re.VERBOSE,
)
_NONE_AT_ALL: Final = re.compile(r"[{~]\s*0*\s*(,|\.\.|\}|$)")

_Token = tuple[str, str]
_Needs = list[list[str]]  # alternatives, each with the rules that it cannot do without


def unending_rule(grammar: str) -> str | None:
    """Return the name of the rule for which `start` never ends; None where it does, or has no such rule."""
    rules = _Rules(list(_tokens(grammar))).needs
    needed_by: dict[str, list[str]] = defaultdict(list)
    for name, needs in rules.items():
        for each in {each for one in needs for each in one}:
            needed_by[each].append(name)
    ending: set[str] = set()
    waiting = list(rules)
    while waiting:
        name = waiting.pop()
        if name not in ending and any(all(each in ending or each not in rules for each in one) for one in rules[name]):
            ending.add(name)
            waiting += needed_by[name]
    name, seen = "start", set[str]()
    if name not in rules or name in ending:
        return None
    named = name
    while name not in seen:
        seen.add(name)
        named = name if name[0] != "(" else named
        name = next(each for one in rules[name] for each in one if each in rules and each not in ending)
    return named


def _tokens(grammar: str) -> Iterator[_Token]:
    place = 0
    while place < len(grammar):
        found = _TOKENS.match(grammar, place)
        if found is None:
            place += 1
            continue
        kind = found.lastgroup or ""
        place = found.end()
        if kind == "json":
            place = _end_of_braces(grammar, place)
            yield "text", ""
        elif kind != "skip":
            yield kind, found[0]


def _end_of_braces(grammar: str, place: int) -> int:
    depth, quoted = 1, False
    while place < len(grammar) and depth:
        mark = grammar[place]
        if quoted and mark == "\\":
            place += 1
        elif mark == '"':
            quoted = not quoted
        elif not quoted:
            depth += (mark == "{") - (mark == "}")
        place += 1
    return place


class _Rules:
    """The rules of a grammar. A group in brackets counts as a rule without a name."""

    def __init__(self, tokens: list[_Token]) -> None:
        self.needs: dict[str, _Needs] = {}
        starts = [place for place in range(len(tokens)) if _begins_a_rule(tokens, place)]
        for start, end in zip(starts, [*starts[1:], len(tokens)], strict=True):
            behind = (_colon_after(tokens, start) or start) + 1
            self._body = [each for each in tokens[behind:end] if each[0] not in ("line", "directive")]
            self.needs[tokens[start][1]] = self._alternatives()

    def _alternatives(self) -> _Needs:
        found: _Needs = [[]]
        place = 0
        groups: list[_Needs] = []  # that are open around
        while place < len(self._body):
            kind, text = self._body[place]
            place += 1
            if kind == "mark" and text in "([":
                groups.append(found)
                found = [[]]
            elif kind == "mark" and text in ")]" and groups:
                name = f"({len(self.needs)}-{place}"
                self.needs[name] = [*found, []] if text == "]" else found
                found = groups.pop()
                found[-1].append(name)
            elif text == "|":
                found.append([])
            elif text == "->":
                place += 1
            elif kind == "name":
                found[-1].append(text)
            elif kind in ("text", "regex", "special"):
                found[-1].append("")  # none of the rules: it ends by itself
            elif found[-1] and (text in ("?", "*") or (kind == "count" and _NONE_AT_ALL.search(text))):
                found[-1].pop()
        return found


def _begins_a_rule(tokens: list[_Token], place: int) -> bool:
    before = tokens[place - 1] if place else ("line", "")
    begins = before[0] in ("line", "directive") or before[1] in ("?", "!")
    return tokens[place][0] == "name" and begins and _colon_after(tokens, place) is not None


def _colon_after(tokens: list[_Token], place: int) -> int | None:
    """Return the place of the colon behind a rule's name, its priority and its attributes; None where there is none."""
    inside = 0
    for at in range(place + 1, len(tokens)):
        kind, text = tokens[at]
        inside += (text == "[") - (text == "]")
        if text == ":" and not inside:
            return at
        if kind == "line" or (kind == "mark" and text in "(|?*+"):
            return None
    return None

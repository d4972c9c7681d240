"""The rules by which answers are drawn for review: read from a file, and asked about a receipt."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple, Self

from pydantic import AfterValidator, Field, ValidationError

from headrace_schemas.errors import ConfigurationError
from headrace_schemas.limits import INTEGRAL, ShortText, Tenant
from headrace_schemas.model import Value
from headrace_schemas.reasons import first_problem
from headrace_schemas.review import HELD, MAX_PEOPLE, MAX_RULES, ReviewRule, place_of_second

if TYPE_CHECKING:  # the other processes only ask the rules
    from headrace_workers.core.toml_file import Keys

__all__ = [
    "ANSWER_STAGES",
    "BEHIND_HELD",
    "HELD",
    "ReviewRules",
    "Stratum",
    "drawn",
    "parse_rules",
    "rule_of",
    "rules_in",
    "text_of",
]

MAX_FILE_BYTES: Final = 1_000_000
MAX_TENANTS: Final = 1_000
MOST_OPEN: Final = 100_000
EXAMPLE: Final = """\
lease = "15m"        # an item is a person's for so long
people = 1
most_open = 10000

[[rules]]
name = "low"
share = 0.5
below = { criterion = "helpful", value = 0.5 }

[[rules]]
name = "split"
disagreement = { between = ["harmless", "hate"] }

[[rules]]
name = "audit"
share = 0.05

[tenants.acme]
training = false     # decisions keep no copy of this tenant's texts
"""
ANSWER_STAGES: Final = ("moderate", "rubric", "judge")  # a job that is held there is held for its answer
_SHORTEST_MS, _LONGEST_MS = 60_000, 86_400_000
_WHOLE: Final = 2**64
BEHIND_HELD: Final = 2**61  # ranks of drawn answers begin here: ranks of held items are times in ms


def _milliseconds(text: str) -> int:
    from headrace_workers.cli.durations import parse_duration

    return int(parse_duration(text).total_seconds() * 1000)


def _lease(text: str) -> str:
    try:
        number = _milliseconds(text)
    except ConfigurationError as error:
        raise ValueError(str(error)) from None
    if not _SHORTEST_MS <= number <= _LONGEST_MS:
        raise ValueError(f"must be from 1m to 1d, not {text}")
    return text


class TenantReviews(Value):
    """Differences for one tenant."""

    training: Annotated[bool, Field(description="Whether decisions keep a copy of this tenant's texts.")] = True


class ReviewRules(Value):
    """The deployment's rules, with what they say of all items."""

    lease: Annotated[
        ShortText, AfterValidator(_lease), Field(description="For how long an item is a person's: 15m, 1h.")
    ] = "15m"
    people: Annotated[
        int, Field(ge=1, le=MAX_PEOPLE, description="How many people review an item, where its rule does not say."),
        INTEGRAL,
    ] = 1  # fmt: skip
    most_open: Annotated[
        int, Field(ge=1, le=MOST_OPEN, description="Open items of one rule and tenant. More are not enqueued."),
        INTEGRAL,
    ] = 10_000  # fmt: skip
    rules: Annotated[tuple[ReviewRule, ...], Field(max_length=MAX_RULES, description="The rules, in their order.")] = ()
    tenants: Annotated[
        dict[Tenant, TenantReviews], Field(max_length=MAX_TENANTS, description="What is different for a tenant.")
    ] = {}

    @property
    def lease_ms(self) -> int:
        """Return the length of a lease in ms."""
        return _milliseconds(self.lease)

    def may_train(self, tenant: str) -> bool:
        """Return True if decisions keep a copy of this tenant's texts."""
        return self.tenants.get(tenant, TenantReviews()).training

    def people_of(self, rule: ReviewRule) -> int:
        """Return how many people review an answer that a rule drew."""
        return rule.people if "people" in rule.model_fields_set else self.people

    def to_json(self) -> str:
        """Return what the file sets, as JSON."""
        return self.model_dump_json(exclude_unset=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return what `to_json` wrote. Raise ValidationError for what a later headrace wrote."""
        return cls.model_validate_json(text, strict=True)


class _Wrong(Exception):
    """A fault in a file, with the keys that lead to it."""

    def __init__(self, keys: "Keys", reason: str) -> None:
        super().__init__(reason)
        self.keys = keys


def text_of(path: Path, *, required: bool) -> bytes:
    """Return what a file of rules holds; nothing if it is missing and not `required`. Raise ConfigurationError."""
    try:
        if not path.is_file():
            if not required and not path.exists():
                return b""
            raise ConfigurationError(f"{path} is no file: create it, or mend HEADRACE_REVIEWS")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigurationError(f"{path} has more than {MAX_FILE_BYTES:,} bytes: shorten it")
    return data


def parse_rules(data: bytes, named: str) -> ReviewRules:
    """Return the rules in a file of this name. Raise ConfigurationError: file, line, what is wrong, what to do."""
    import tomllib

    from headrace_workers.core.toml_file import fault_at, line_of

    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
        document = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{named} is not UTF-8: byte {error.start + 1} cannot be read") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{named} is no TOML: {error}") from None
    try:
        return _checked(document)
    except _Wrong as wrong:
        raise ConfigurationError(fault_at(named, line_of(text, wrong.keys), wrong.keys, str(wrong))) from None


def _checked(document: Mapping[str, Any]) -> ReviewRules:
    written = json.dumps(document, default=str).encode()
    try:
        rules = ReviewRules.model_validate_json(written, strict=True)
    except ValidationError as error:
        place, words = first_problem(error, written)
        raise _Wrong(place or (), words) from None
    if (second := place_of_second(rules.rules)) is not None:
        raise _Wrong(("rules", second, "name"), "is the name of a rule above: give each its own")
    return rules


class Stratum(NamedTuple):
    """A rule that drew an answer, and the item's rank within all items."""

    rule: ReviewRule
    rank: int


def rule_of(rules: Sequence[ReviewRule], tenant: str, receipt: Mapping[str, Any]) -> ReviewRule | None:
    """Return the first rule whose condition a receipt meets; None where there is none."""
    values: Mapping[str, float] | None = None
    for rule in rules:
        if rule.tenant is not None and rule.tenant != tenant:
            continue
        if rule.below is None and rule.disagreement is None:
            return rule
        if values is None:
            values = _values(receipt)
        if _meets(rule, values):
            return rule
    return None


def drawn(rule: ReviewRule, job_id: str) -> Stratum | None:
    """Return the stratum of an answer if it is in the rule's share, by a hash of the rule's name and the job's id: a
    larger share holds a smaller one.
    """
    digest = hashlib.sha256(f"review\n{rule.name}\n{job_id}".encode()).digest()
    if int.from_bytes(digest[:8]) >= rule.share * _WHOLE:
        return None
    return Stratum(rule, BEHIND_HELD | int.from_bytes(digest[8:16]) % BEHIND_HELD)


def _meets(rule: ReviewRule, values: Mapping[str, float]) -> bool:
    if rule.below is not None:
        value = values.get(rule.below.criterion)
        return value is not None and value < rule.below.value
    assert rule.disagreement is not None  # noqa: S101 - it has one of both
    one, other = (values.get(name) for name in rule.disagreement.between)
    return one is not None and other is not None and abs(one - other) >= rule.disagreement.by


def _values(receipt: Mapping[str, Any]) -> dict[str, float]:
    """Return what machines said about an answer, by the names of criteria and of categories of moderation: 1 where
    nothing was objected to. Two criteria with one name have no value: either could be meant.
    """
    categories = (receipt.get("moderation") or {}).get("categories") or {}
    found = {name: float(not flagged) for name, flagged in categories.items()}
    scores = (receipt.get("judge") or {}).get("scores") or ()
    named = [(score.get("name") or score["criterion"], score.get("value")) for score in scores]
    times = Counter(name for name, _ in named)
    for name, value in named:
        if times[name] > 1 or value is None:
            found.pop(name, None)
        else:
            found[name] = value
    return found


@lru_cache(maxsize=16)
def rules_in(text: str) -> ReviewRules:
    """Return the rules that the ledger keeps as this JSON; none where a later headrace wrote it."""
    try:
        return ReviewRules.from_json(text)
    except ValidationError:
        return ReviewRules()

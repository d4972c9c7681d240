"""A moderation policy: one rule for each category, by tenant where tenants differ. Values that never change."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Final, get_args

from headrace_schemas.moderation import Action
from headrace_workers.features.moderation.name_model import NameModel
from headrace_workers.features.moderation.openai_endpoint import Endpoint

ACTIONS: Final[tuple[Action, ...]] = get_args(Action)  # from the mildest to the strictest
REGENERATE: Final = "regenerate"  # in a policy file: an answer that would be blocked is first made again


@dataclass(frozen=True, slots=True)
class Rule:
    """The action for findings of one category whose score is at least `min_score`, if `detectors` of them agree on a
    span. `allowed` texts are exempt; `again`: the model first makes a blocked answer again.
    """

    action: Action
    min_score: float = 0.0
    detectors: int = 1
    allowed: tuple[str, ...] = ()
    again: bool = False

    @property
    def said(self) -> str:
        """The action as a policy file has it."""
        return REGENERATE if self.again else self.action

    def allows(self, span: str) -> bool:
        """Return True if a span with this text is allowed, whatever was found in it."""
        folded = span.casefold()
        return any(_like(folded, entry.casefold()) for entry in self.allowed)


def _like(text: str, entry: str) -> bool:
    if entry.startswith("*"):
        return text.endswith(entry[1:])
    return text.startswith(entry[:-1]) if entry.endswith("*") else text == entry


@dataclass(frozen=True)
class Policy:
    """One rule for each category, the blocklist files, which are searched together, and what else is to look: a trained
    head, an endpoint like OpenAI's, a guard by its alias, a model that finds names, and in prompts and passages the
    head for prompt injection that ships.

    `screen`: prompts are looked at, too, whatever their jobs say, but for system prompts where these are trusted
    (`trust_system`). `canary`: system prompts are marked, and answers
    looked at for the mark; `verbatim`: for stretches of the system prompt of so many characters, too. `tenants` are the
    policies of tenants that have one of their own.
    """

    rules: Mapping[str, Rule]
    blocklists: tuple[Path, ...] = ()
    head: Path | None = None
    screen: bool = False
    trust_system: bool = False
    canary: bool = False
    verbatim: int | None = None
    openai: Endpoint | None = None
    guard: str | None = None
    names: NameModel | None = None
    injection_head: bool = False
    tenants: Mapping[str, "Policy"] = field(default_factory=dict)

    def of(self, tenant: str | None) -> "Policy":
        """Return the policy for this tenant's texts."""
        return self if tenant is None else self.tenants.get(tenant, self)

    @property
    def versions(self) -> dict[str, str]:
        """The version by tenant; "" is for all that have none of their own."""
        return {"": self.version, **{name: own.version for name, own in self.tenants.items()}}

    @cached_property
    def makes_again(self) -> bool:
        """True if a category's rule asks the model again when an answer may not be shown."""
        return any(rule.again for rule in self.rules.values())

    @property
    def of_passages(self) -> "Policy":
        """The same for who looks for prompt injection alone: without lists and services that look for other things."""
        tenants = {name: own.of_passages for name, own in self.tenants.items()}
        return replace(self, blocklists=(), openai=None, guard=None, names=None, tenants=tenants)

    @cached_property
    def version(self) -> str:
        """A digest of what it says: policies that say the same have the same. A blocklist has a version of its own."""
        fields: dict[str, object] = {
            name: (rule.said, rule.min_score, rule.detectors, sorted(rule.allowed)) for name, rule in self.rules.items()
        }
        fields["of all"] = (
            self.screen,
            self.canary,
            self.verbatim,
            *([True] if self.trust_system else []),
        )  # no category is called so
        return sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]

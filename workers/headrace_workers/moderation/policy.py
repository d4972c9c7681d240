"""What is done with findings: a policy is read from TOML, checked once, and never changes."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Final, cast, get_args

from headrace_schemas.errors import ConfigurationError
from headrace_schemas.moderation import Action

ACTIONS: Final[tuple[Action, ...]] = get_args(Action)  # from the mildest to the strictest


@dataclass(frozen=True, slots=True)
class Rule:
    """What is done with findings of one category whose score is at least `min_score`."""

    action: Action
    min_score: float = 0.0


@dataclass(frozen=True)
class Policy:
    """One rule for each category, and the user's blocklist file if there is one."""

    rules: Mapping[str, Rule]
    blocklist: Path | None = None

    @cached_property
    def version(self) -> str:
        """A digest of what it says: policies that say the same have the same. A blocklist has a version of its own."""
        said = {name: (rule.action, rule.min_score) for name, rule in self.rules.items()}
        return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]


def load_policy(path: Path | None = None) -> Policy:
    """The policy in a TOML file; categories that it does not name keep their rule of the default policy.

    `blocklist` is taken relative to the policy file. ConfigurationError names the file, the key and what it may be.
    """
    defaults = _default()
    if path is None:
        return defaults
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"moderation policy {path} cannot be read: {error}") from error
    policy = _parse(text, str(path), known=frozenset(defaults.rules))
    blocklist = None if policy.blocklist is None else path.parent / policy.blocklist
    return Policy(MappingProxyType({**defaults.rules, **policy.rules}), blocklist)


def _default() -> Policy:
    text = files("headrace_workers.moderation").joinpath("default_policy.toml").read_text(encoding="utf-8")
    return _parse(text, "default_policy.toml", known=None)


def _parse(text: str, where: str, known: frozenset[str] | None) -> Policy:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"moderation policy {where} is no TOML: {error}") from error
    if unknown := document.keys() - {"categories", "blocklist"}:
        names = ", ".join(sorted(unknown))
        raise ConfigurationError(f"moderation policy {where}: unknown key {names}; known are categories and blocklist")
    categories = document.get("categories", {})
    if not isinstance(categories, dict):
        raise ConfigurationError(f"moderation policy {where}: categories must be a table")
    rules: dict[str, Rule] = {}
    for name, value in categories.items():
        if known is not None and name not in known:
            names = ", ".join(sorted(known))
            raise ConfigurationError(f"moderation policy {where}: unknown category {name!r}; known are {names}")
        rules[name] = _rule(value, f"moderation policy {where}: categories.{name}")
    blocklist = document.get("blocklist")
    if blocklist is not None and (not isinstance(blocklist, str) or not blocklist):
        raise ConfigurationError(f"moderation policy {where}: blocklist must be the path of a file")
    return Policy(MappingProxyType(rules), Path(blocklist) if blocklist else None)


def _rule(value: object, where: str) -> Rule:
    table = {"action": value} if isinstance(value, str) else value
    if not isinstance(table, dict) or "action" not in table or table.keys() - {"action", "min_score"}:
        raise ConfigurationError(f'{where} must be an action, or {{ action = "…", min_score = 0.0 to 1.0 }}')
    action, score = table["action"], table.get("min_score", 0.0)
    if action not in ACTIONS:
        raise ConfigurationError(f"{where}: unknown action {action!r}; known are {', '.join(ACTIONS)}")
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise ConfigurationError(f"{where}: min_score is {score!r}, but must be a number from 0 to 1")
    return Rule(cast(Action, action), float(score))

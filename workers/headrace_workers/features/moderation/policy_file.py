"""A policy as a TOML file has it: read, checked, and refused with the line and the reason where it is wrong."""

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, cast

from pydantic import TypeAdapter, ValidationError

from headrace_schemas.errors import ConfigurationError
from headrace_schemas.limits import Tenant
from headrace_schemas.moderation import Action
from headrace_workers.features.moderation.leak import SHORTEST
from headrace_workers.features.moderation.policy import ACTIONS, REGENERATE, Policy, Rule
from headrace_workers.features.moderation.policy_detectors import read_detectors
from headrace_workers.features.moderation.policy_tables import Wrong, only, read_path, read_switch, table_of
from headrace_workers.features.moderation.toml_lines import Keys, line_of

MAX_FILE_BYTES: Final = 1_000_000
MAX_TENANTS: Final = 1_000
MAX_ALLOWED: Final = 1_000  # entries of one category's allow-list
MAX_ENTRY: Final = 500  # characters of one
_MOST_DETECTORS: Final = 9
_LONGEST_STRETCH: Final = 10_000
_SHAPE: Final = 'must be an action, or { action = "…", min_score = 0.0 to 1.0, detectors = 1 to 9 }'
_OF_ONE: Final = frozenset({"categories", "allow", "blocklist", "screen", "trust_system", "canary", "verbatim"})
_TENANT: Final[TypeAdapter[str]] = TypeAdapter(Tenant)


def load_policy(path: Path | None = None) -> Policy:
    """Return the policy in a TOML file. Categories that it does not name keep their rule of the default policy.

    Blocklists are taken relative to the policy file. ConfigurationError names the file, the line, and what it may be.
    """
    if path is None:
        return _default()
    try:
        if (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise ConfigurationError(
                f"moderation policy {path} has {size} bytes; at most {MAX_FILE_BYTES} are taken. "
                "Terms and patterns belong into a blocklist"
            )
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"moderation policy {path} cannot be read: {error}") from error
    return _parse(text, str(path), _default(), path.parent)


@cache
def _default() -> Policy:
    text = files("headrace_workers.features.moderation").joinpath("default_policy.toml").read_text(encoding="utf-8")
    return _parse(text, "default_policy.toml", None, Path())


def _parse(text: str, where: str, default: Policy | None, folder: Path) -> Policy:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"moderation policy {where} is no TOML: {error}") from error
    try:
        only((), document, _OF_ONE | {"tenants", "head", "detectors"})
        whole = _read((), document, default, folder)
        tenants = table_of(("tenants",), document.get("tenants", {}))
        if len(tenants) > MAX_TENANTS:
            raise Wrong(("tenants",), f"there are {len(tenants)}; at most {MAX_TENANTS} are taken")
        head = read_path((), document, "head", folder)
        named = read_detectors(document, folder)
        own = {name: _of_tenant(name, value, whole, folder) for name, value in tenants.items()}
    except Wrong as wrong:
        line = line_of(text, wrong.keys)
        place = f"{where}, line {line}" if line is not None else where
        subject = f"{'.'.join(wrong.keys)}: " if wrong.keys else ""
        raise ConfigurationError(f"moderation policy {place}: {subject}{wrong}") from None
    return replace(whole, head=head, tenants=MappingProxyType(own), **named._asdict())


def _of_tenant(name: str, value: object, whole: Policy, folder: Path) -> Policy:
    keys = ("tenants", name)
    try:
        _TENANT.validate_python(name)
    except ValidationError:
        raise Wrong(keys, "this is no tenant's name") from None
    table = table_of(keys, value)
    only(keys, table, _OF_ONE)
    return _read(keys, table, whole, folder)


def _read(keys: Keys, table: Mapping[str, Any], base: Policy | None, folder: Path) -> Policy:
    """Return the policy of a table, which changes `base`. Without a base the table names all categories."""
    rules: dict[str, Rule] = {} if base is None else dict(base.rules)
    categories = table_of((*keys, "categories"), table.get("categories", {}))
    for name, value in categories.items():
        at = (*keys, "categories", name)
        if base is not None:
            _is_category(at, rules)
        rules[name] = _rule(at, value, rules[name].allowed if name in rules else ())
    for name, entries in table_of((*keys, "allow"), table.get("allow", {})).items():
        at = (*keys, "allow", name)
        _is_category(at, rules)
        rule = rules[name]
        rules[name] = replace(rule, allowed=(*rule.allowed, *_allowed(at, entries)))
    blocklist = read_path(keys, table, "blocklist", folder)
    own = () if blocklist is None else (blocklist,)
    return Policy(
        MappingProxyType(rules),
        (*(base.blocklists if base else ()), *own),
        screen=read_switch(keys, table, "screen", base is not None and base.screen),
        trust_system=read_switch(keys, table, "trust_system", base is not None and base.trust_system),
        canary=read_switch(keys, table, "canary", base is not None and base.canary),
        verbatim=_verbatim(keys, table, None if base is None else base.verbatim),
    )


def _verbatim(keys: Keys, table: Mapping[str, Any], default: int | None) -> int | None:
    value = table.get("verbatim", default)
    if value is None or (value == 0 and not isinstance(value, bool)):
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not SHORTEST <= value <= _LONGEST_STRETCH:
        between = f"from {SHORTEST} to {_LONGEST_STRETCH}"
        raise Wrong((*keys, "verbatim"), f"is {value!r}, but must be a number of characters {between}, or 0 for none")
    return value


def _rule(keys: Keys, value: object, allowed: tuple[str, ...]) -> Rule:
    table = {"action": value} if isinstance(value, str) else value
    if not isinstance(table, dict) or "action" not in table or table.keys() - {"action", "min_score", "detectors"}:
        raise Wrong(keys, _SHAPE)
    action, score, detectors = table["action"], table.get("min_score", 0.0), table.get("detectors", 1)
    again = action == REGENERATE
    action = "block" if again else action
    if action not in ACTIONS:
        raise Wrong(keys, f"unknown action {action!r}; known are {', '.join((*ACTIONS, REGENERATE))}")
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise Wrong(keys, f"min_score is {score!r}, but must be a number from 0 to 1")
    if isinstance(detectors, bool) or not isinstance(detectors, int) or not 1 <= detectors <= _MOST_DETECTORS:
        raise Wrong(keys, f"detectors is {detectors!r}, but must be a whole number from 1 to {_MOST_DETECTORS}")
    return Rule(cast(Action, action), float(score), detectors, allowed, again)


def _allowed(keys: Keys, entries: object) -> tuple[str, ...]:
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise Wrong(keys, "must be a list of texts that are let be")
    if len(entries) > MAX_ALLOWED:
        raise Wrong(keys, f"has {len(entries)} entries; at most {MAX_ALLOWED} are taken")
    for entry in entries:
        if len(entry) > MAX_ENTRY:
            raise Wrong(keys, f"an entry has {len(entry)} characters; at most {MAX_ENTRY} are taken")
        if not entry.strip("*") or "*" in entry[1:-1] or (entry.startswith("*") and entry.endswith("*")):
            raise Wrong(keys, f"{entry!r} must be a text, with one * at its beginning or at its end if any")
    return tuple(entries)


def _is_category(keys: Keys, rules: Mapping[str, Rule]) -> None:
    if keys[-1] not in rules:
        raise Wrong(keys, f"unknown category {keys[-1]!r}; known are {', '.join(sorted(rules))}")

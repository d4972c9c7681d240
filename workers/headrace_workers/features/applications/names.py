"""The applications of a tenant as /v1/models shows them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from headrace_schemas.application import PRODUCTION
from headrace_schemas.limits import ModelName
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.applications.definition import Definition
from headrace_workers.features.applications.store import SHARED, Application, Applications

_MOST: Final = 1_000  # names in a list, and versions of an application


def names(ledger: Ledger, tenant: str, name: str | None) -> Sequence[Mapping[str, Any]]:
    """Return the applications of a tenant, and the shared ones, as OpenAI's API has models; a list holds those with a
    version in production.
    """
    applications = ledger.of(Applications)
    if name is None:
        found = applications.listed((tenant, SHARED), _MOST, label=PRODUCTION)
        mine = {app.name for app in applications.listed((tenant,), _MOST)}
        return [_model(app.name, app) for app in found if app.scope != SHARED or app.name not in mine]
    if not _is_name(name):
        return []
    alias, _, at = name.partition("@")
    app = applications.visible(tenant, alias)
    version = app and applications.version(
        app.scope, alias, at or (PRODUCTION if PRODUCTION in app.labels else str(app.newest))
    )
    if app is None or version is None:
        return []
    versions = applications.versions(app.scope, alias, _MOST)
    shown = _model(name, app)
    shown["headrace"] |= {
        "version": version.number,
        "digest": version.digest,
        "versions": [{"version": pushed.number, "digest": pushed.digest} for pushed in versions],
        **Definition.from_json(version.definition).problem.model_dump(include={"purpose", "owner", "task"}),
    }
    return [shown]


def _is_name(name: str) -> bool:
    try:
        TypeAdapter(ModelName).validate_python(name)
    except ValidationError:
        return False
    return True


def _model(name: str, app: Application) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": app.pushed_at // 1000,
        "owned_by": app.scope or "headrace",
        "headrace": {"kind": "application", "labels": dict(app.labels), "newest": app.newest},
    }

"""The applications' part of `headrace status`: those that a model hides."""

from typing import Final

from headrace_workers.cli.status_views import StatusPart
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.applications.store import Applications
from headrace_workers.models.registry import list_cards, readable_catalogue
from headrace_workers.runtime.settings import home_of

_MOST: Final = 10_000  # applications


def hidden(ledger: Ledger) -> StatusPart:
    """Return the applications whose name is also a model's or a chain's here: jobs that give it get that one."""
    home = home_of()
    models = {card.alias for card in list_cards(home)} | readable_catalogue(home).chains.keys()
    found = [app for app in ledger.of(Applications).listed(limit=_MOST) if app.name in models] if models else []
    return StatusPart(
        name="hidden_applications",
        items=[{"application": app.name, "tenant": app.scope or None} for app in found],
        title="applications that a model or chain of the same name hides: rename one of them",
        columns=("application", "tenant"),
        rows=[(app.name, app.scope or "shared") for app in found],
    )

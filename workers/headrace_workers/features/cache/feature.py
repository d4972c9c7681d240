"""What cache adds to headrace."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:
    from headrace_workers.core.ledger.hooks import Hooks


def _commands() -> Sequence[Callable[[Any], None]]:
    from headrace_workers.features.cache.commands import bench, cache

    return (
        cache.register,
        bench.register,
    )


def _hooks() -> "Hooks":
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.features.cache.store import entries, purge, standings

    return Hooks(on_prune=purge.forget, on_documents_changed=entries.outdate, incidents=standings.troubles)


FEATURE = Feature(name="cache", commands=_commands, hooks=_hooks, change_kinds={"entry": "answers"})

"""What cache adds to headrace."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:  # most processes do without it
    from headrace_workers.core.ledger.hooks import Hooks


def _commands() -> Sequence[Callable[[Any], None]]:
    from headrace_workers.features.cache.commands import bench, cache

    return (
        cache.register,
        bench.register,
    )


def _hooks() -> "Hooks":
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.features.cache.store import entries, purge, recalled, row_locks, standings

    return Hooks(
        concerns=entries.makes_answer,
        hold_rows=row_locks.hold,
        on_completion=entries.withdraw_of,
        on_held=entries.withdraw_of,
        on_withheld=recalled.disown,
        is_due=entries.any_expired,
        on_reap=entries.expire,
        on_prune=purge.forget,
        on_documents_changed=entries.outdate,
        incidents=standings.troubles,
    )


FEATURE = Feature(name="cache", commands=_commands, hooks=_hooks, change_kinds={"entry": "answers"})

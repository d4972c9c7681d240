"""Creation of batches. The same file and options give the same batch."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row

from headrace_schemas.callback import BatchCallback
from headrace_schemas.errors import Category, ConfigurationError, HeadraceError
from headrace_workers.core.job_defaults import Defaults
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.batches.store.batches import NewBatch
from headrace_workers.features.batches.store.bulk import Batches
from headrace_workers.features.files.file_service import new_id
from headrace_workers.features.webhooks.admission import check_callback
from headrace_workers.features.webhooks.store.webhooks import Webhooks
from headrace_workers.features.webhooks.targets import Reach

WINDOW = 86_400.0  # seconds
LONGEST_WINDOW = 16  # characters of it, as it is asked for


_UNITS = {"m": 60, "h": 3_600, "d": 86_400}
_WINDOW = re.compile(r"([1-9][0-9]{0,5})([mhd])")
LONGEST_SECONDS = 30 * 86_400
_INTERNET = Reach()


def seconds_of(window: str) -> float:
    """Return the seconds of a window such as `24h`: minutes, hours or days, at most 30 days. Raise
    ConfigurationError.
    """
    found = _WINDOW.fullmatch(window)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 0 < seconds <= LONGEST_SECONDS:
        raise ConfigurationError(f"completion_window is {window!r}; it must be 24h, or another number of m, h or d, "
                                 "of 30 days at most")  # fmt: skip
    return float(seconds)


class EmptyInput(HeadraceError):
    """There is nothing in a batch's input that could be run."""

    category = Category.INVALID


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """Options of a batch. `window` is its longest time in seconds, and `window_text` the same as the request has it.
    `name` distinguishes batches that are otherwise equal. `output_seconds` is how long its outputs are kept. `callback`
    receives its end. `withheld` are the families of resources (see `named`) that its lines may not name.
    """

    tenant: str
    defaults: Defaults
    endpoint: str | None = None
    window: float = WINDOW
    window_text: str = "24h"
    max_tokens: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    output_seconds: int | None = None
    callback: BatchCallback | None = None
    withheld: tuple[str, ...] = ()

    def key(self, digest: str) -> str:
        """Return the name of a batch with this content and these options."""
        options = {
            "content": digest, "endpoint": self.endpoint, "defaults": self.defaults.to_json(),
            "window": self.window_text,
            "max_tokens": self.max_tokens, "metadata": dict(self.metadata), "name": self.name,
            "callback": None if self.callback is None else self.callback.model_dump(),
        }  # fmt: skip
        return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()


def submit(
    ledger: Ledger, file: Row[Any], wishes: BatchOptions, key: str | None, reach: Reach = _INTERNET
) -> tuple[Row[Any], bool]:
    """The batch of a stored file, and whether it is new: under a key that was used before it is that one.

    EmptyInput where the file has no line; InvalidRecord where its callback names an endpoint that is not there, or a
    URL that is beyond `reach`.
    """
    if file.lines == 0:
        raise EmptyInput(f"{file.name}: the file has no lines")
    if key is not None and (known := ledger.of(Batches).keyed(wishes.tenant, key)) is not None:
        return known, False
    check_callback(wishes.tenant, wishes.callback, ledger.of(Webhooks).unknown, reach)
    return ledger.of(Batches).create(
        NewBatch(
            id=new_id("batch_"),
            tenant=wishes.tenant,
            key=key,
            endpoint=wishes.endpoint,
            input_file=file.id,
            total=file.lines or 0,
            window=wishes.window_text,
            window_ms=int(wishes.window * 1000),
            metadata=json.dumps(dict(wishes.metadata), ensure_ascii=False),
            defaults=wishes.defaults.to_json(),
            max_tokens=wishes.max_tokens,
            output_ms=None if wishes.output_seconds is None else wishes.output_seconds * 1000,
            callback=None if wishes.callback is None else wishes.callback.model_dump_json(exclude_defaults=True),
            withheld=" ".join(wishes.withheld) or None,
        )
    )

"""Creation of batches. The same file and options give the same batch."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from sqlalchemy import Row

from headrace_schemas.callback import BatchCallback
from headrace_schemas.errors import Category, ConfigurationError, HeadraceError
from headrace_workers.core.job_defaults import Defaults
from headrace_workers.core.json_lines import read_on
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.text_file import text_of
from headrace_workers.features.batches.lines import LONGEST_LINE
from headrace_workers.features.batches.store.batches import DUPLICATE, FAILED, NewBatch
from headrace_workers.features.batches.store.transactions import Batches
from headrace_workers.features.webhooks.admission import check_callback
from headrace_workers.features.webhooks.store.webhooks import Webhooks
from headrace_workers.features.webhooks.targets import Reach
from headrace_workers.files.service import BATCH_INPUT, Files, new_id

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
    match = _WINDOW.fullmatch(window)
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
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


_CHUNK = 1024**2  # bytes


class NotOver(HeadraceError):
    """A batch that has not ended: its failed lines cannot be run again yet."""

    category = Category.CONFLICT


class NothingFailed(HeadraceError):
    """There is nothing to be run again."""

    category = Category.INVALID


class InputGone(HeadraceError):
    """The lines that failed are not there any more."""

    category = Category.INVALID


def retry_failed(
    batches: Batches, files: Files, batch: Row[Any], *, max_tokens: int | None, keep: float | None
) -> tuple[Row[Any], bool]:
    """The batch of what failed of this one, and whether it is new. Lines keep their numbers: the others are empty in
    its input. NotOver, NothingFailed, InputGone.

    A line that had another's name is not among them: it would be that line's second answer.
    """
    if batch.ended_at is None:
        raise NotOver(f"{batch.id} is not over ({batch.state}): wait for it, or cancel it")
    origin = json.dumps({"of": batch.id, "max_tokens": max_tokens})
    key = hashlib.sha256(f"retry {origin}".encode()).hexdigest()
    if (known := batches.keyed(batch.tenant, key)) is not None:
        return known, False
    if files.head(batch.input_file, 1) is None:
        raise InputGone(f"the input of {batch.id}, {batch.input_file}, was deleted: submit the lines that failed anew; "
                        f"`headrace batch results {batch.id} --errors` names them")  # fmt: skip
    with text_of(files.open(batch.input_file)) as text:
        file = files.add(
            only(text, _failed(batches, batch.number)), tenant=batch.tenant, purpose=BATCH_INPUT,
            name=f"{batch.id}_failed.jsonl", keep=keep, lines=True,
        )  # fmt: skip
    if not file.lines:
        files.remove(file.id)
        raise NothingFailed(f"nothing of {batch.id} failed that could be run again")
    made, new = batches.create(
        NewBatch(
            id=new_id("batch_"),
            tenant=batch.tenant,
            key=key,
            endpoint=batch.endpoint,
            input_file=file.id,
            total=file.lines,
            window=batch.window,
            window_ms=batch.expires_at - batch.created_at,
            metadata=json.dumps({**json.loads(batch.metadata), "retry_of": batch.id}, ensure_ascii=False),
            defaults=batch.defaults,
            max_tokens=max_tokens,
            callback=batch.callback,
        )
    )
    if not new:
        files.remove(file.id)
    return made, new


def only(text: BinaryIO, numbers: Iterator[int]) -> Iterator[bytes]:
    """The lines of a text that have these numbers, which rise; all others up to the last of them are empty."""
    found = bytearray()
    wanted = next(numbers, None)
    for line in read_on(text, LONGEST_LINE):
        if wanted is None:
            break
        if line.number == wanted:
            found += line.text.rstrip(b"\r\n")
            wanted = next(numbers, None)
        found += b"\n"
        if len(found) >= _CHUNK:
            yield bytes(found)
            found.clear()
    yield bytes(found)


def _failed(batches: Batches, number: int) -> Iterator[int]:
    return (line.number for line in batches.every_line(number, FAILED) if line.code != DUPLICATE)

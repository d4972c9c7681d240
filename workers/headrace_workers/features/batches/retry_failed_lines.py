"""Running what failed of a batch once more, as a batch of its own."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from sqlalchemy import Row

from headrace_schemas.errors import Category, HeadraceError
from headrace_workers.core.json_lines import read_on
from headrace_workers.core.text_file import text_of
from headrace_workers.features.batches.line_jobs import LONGEST_LINE
from headrace_workers.features.batches.line_states import FAILED
from headrace_workers.features.batches.store.batches import DUPLICATE, NewBatch
from headrace_workers.features.batches.store.bulk import Batches
from headrace_workers.features.files.file_service import BATCH_INPUT, Files, new_id

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
                        f"`headrace batch errors {batch.id}` names them")  # fmt: skip
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

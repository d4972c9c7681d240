"""Files of batches on this machine: inputs that are submitted, and results."""

import hashlib
import sys
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json
from sqlalchemy import Row

from headrace_schemas.callback import BatchCallback
from headrace_schemas.errors import Category, ConfigurationError, HeadraceError
from headrace_workers.cli.asking import STDIN
from headrace_workers.cli.connections import need_ledger, ring_bridges
from headrace_workers.cli.output import NoSuchThing, printable
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.text_file import NotReadable
from headrace_workers.features.batches.new_batch import BatchOptions, EmptyInput
from headrace_workers.features.batches.new_batch import submit as submit_file
from headrace_workers.features.batches.settings import BatchSettings
from headrace_workers.features.batches.store.transactions import Batches
from headrace_workers.features.webhooks.admission import check_callback
from headrace_workers.features.webhooks.settings import WebhookSettings
from headrace_workers.features.webhooks.store.webhooks import Webhooks
from headrace_workers.files.object_store import Store
from headrace_workers.files.service import BATCH_INPUT, Files
from headrace_workers.files.settings import FileSettings
from headrace_workers.files.store.stored import StoredFiles
from headrace_workers.runtime.settings import home_of

_CHUNK = 1024**2  # bytes
_ENDPOINT = "we_"  # how the ids of registered endpoints begin
_ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".ndjson.gz", ".ndjson.zst")


class NoSuchBatch(NoSuchThing):
    """A batch that does not exist, or belongs to another tenant."""


class Changed(HeadraceError):
    """A file that changed while it was read: nothing of it was submitted."""

    category = Category.INVALID


@dataclass(frozen=True, slots=True)
class Deployment:
    """The ledger and the files of a deployment. `keep`: seconds that files of batches are kept."""

    ledger: Ledger
    files: Files
    keep: float

    @property
    def batches(self) -> Batches:
        """Return the store of batches."""
        return self.ledger.of(Batches)

    def batch(self, batch_id: str, tenant: str | None) -> Row[Any]:
        """Return a batch. Raise NoSuchBatch if it does not exist, or is not `tenant`'s."""
        row = self.batches.batch(batch_id, tenant)
        if row is None:
            raise NoSuchBatch(f"there is no batch {batch_id!r}: `headrace batch status` shows all")
        return row

    def check_callback(self, wishes: BatchOptions) -> None:
        """Raise InvalidRecord if webhooks may not go to the callback."""
        check_callback(
            wishes.tenant, wishes.callback, self.ledger.of(Webhooks).unknown, WebhookSettings.from_env().reach
        )

    def submit(self, path: Path, shown: str, wishes: BatchOptions) -> tuple[Row[Any], bool]:
        """Return the batch of a file, and if it is new.

        Raise Changed, EmptyInput, NotReadable, ConfigurationError, or InvalidRecord about its callback.
        """
        before = _stat(path, shown)
        digest = hashlib.sha256()
        for chunk in _chunks(path, shown):
            digest.update(chunk)
        key = wishes.key(digest.hexdigest())
        if (known := self.batches.keyed(wishes.tenant, key)) is not None:
            return known, False
        self.check_callback(wishes)  # before a large file is copied
        try:
            file = self.files.add(
                _chunks(path, shown), tenant=wishes.tenant, purpose=BATCH_INPUT, name=printable(Path(shown).name),
                keep=self.keep, lines=True,
            )  # fmt: skip
        except NotReadable as error:
            raise error.of(shown) from None
        try:
            if file.digest != digest.hexdigest() or _stat(path, shown) != before:
                raise Changed(f"{shown} was changed while it was read: submit it when it is whole")
            if file.lines == 0:
                raise EmptyInput(f"{shown}: the file has no lines")
            batch, new = submit_file(self.ledger, file, wishes, key, WebhookSettings.from_env().reach)
        except HeadraceError:
            self.files.remove(file.id)
            raise
        if not new:  # somebody else submitted it at this moment
            self.files.remove(file.id)
        ring_bridges()
        return batch, new


@contextmanager
def deployment() -> Iterator[Deployment]:
    """Yield the deployment that can be reached from here. Raise ConfigurationError if there is none."""
    ledger = need_ledger()
    try:
        files = Files(ledger.of(StoredFiles), Store.at(FileSettings.from_env().place(home_of())))
        yield Deployment(ledger, files, BatchSettings.from_env().files_retention)
    finally:
        ledger.close()


def callback_of(place: str) -> BatchCallback:
    """Return the callback of a batch: a URL, or a registered endpoint's id. Raise ConfigurationError for anything
    else.
    """
    try:
        return BatchCallback(endpoint=place) if place.startswith(_ENDPOINT) else BatchCallback(url=place)
    except ValidationError:
        raise ConfigurationError(
            f"--callback is {place!r}; it must be a URL such as https://shop.example/hooks, or the id of an endpoint "
            "that `headrace webhooks list` shows"
        ) from None


def sources(source: str) -> Iterator[tuple[Path, str]]:
    """Yield the files that a command-line argument means, and their names. Raise ConfigurationError if it means
    none.
    """
    if source == STDIN:
        with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
            spool = Path(folder) / "input"
            with spool.open("wb") as file:
                while chunk := sys.stdin.buffer.read(_CHUNK):
                    file.write(chunk)
            yield spool, "standard input"
        return
    if not source:  # the current folder to Python, and mostly a variable that a shell does not know
        raise ConfigurationError(f"FILE is empty: name a file or a folder, or {STDIN} for standard input")
    path = Path(source)
    if not path.is_dir():
        yield path, source
        return
    paths = sorted(
        file_path for file_path in path.iterdir() if file_path.name.endswith(_ENDINGS) and file_path.is_file()
    )
    if not paths:
        raise ConfigurationError(f"{source} has no file that ends in {', '.join(_ENDINGS)}")
    for item in paths:
        yield item, str(item)


def ordered(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of a file of answers in the order of the input, by their numbers. They are sorted on the disk."""
    numbers, starts, sizes = array("q"), array("q"), array("q")
    with tempfile.TemporaryFile() as spool:
        for chunk in chunks:
            spool.write(chunk)
        spool.seek(0)
        at = 0
        while line := spool.readline():
            found = from_json(line)
            numbers.append(found["line"] if "line" in found else found["receipt"]["line"])
            starts.append(at)
            sizes.append(len(line))
            at += len(line)
        for place in sorted(range(len(numbers)), key=numbers.__getitem__):
            spool.seek(starts[place])
            yield spool.read(sizes[place])


def _stat(path: Path, shown: str) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise ConfigurationError(f"{shown} cannot be read: {error.strerror}") from error
    return found.st_size, found.st_mtime_ns


def _chunks(path: Path, shown: str) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except OSError as error:
        raise ConfigurationError(f"{shown} cannot be read: {error.strerror}") from error

"""Tuned models in homes, their copies in the store of files, from which other homes fetch them, and their deletion.

A copy is the files of the model's folder, and a list of their SHA-256, which is written last: without it there is none.
The list of a model that was deleted is `null`, and stays: each home that has the model removes it when it next looks.
`headrace up` looks again and again.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from shutil import rmtree
from threading import Event, Lock, Thread
from typing import Any, Final

from headrace_schemas.errors import Category, ConfigurationError, HeadraceError, Unavailable, UnknownModel
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.log import Action, log
from headrace_workers.features.applications.store import Applications
from headrace_workers.features.tuning.store import TuningRuns
from headrace_workers.files.object_store import NoSuchObject, Store, without_secrets
from headrace_workers.models.registry import (
    CARD_FILE,
    SHARED,
    TUNED,
    ModelCard,
    is_installed,
    list_cards,
    model_dir,
    models_dir,
    sha256_of,
    staged_model,
)

_LIST: Final = "copy.json"  # the SHA-256 of each file, by its name
_CHUNK: Final = 1024**2
_FOLLOW_SECONDS: Final = 15.0
_LOOK_SECONDS = 2.0  # that admission waits for the store
_AGAIN_SECONDS = 1.0  # until admission asks a store again that did not answer
_BROKEN_SECONDS: Final = 300.0  # until a copy that was not as it was written is fetched again


class ModelInUse(HeadraceError):
    """A tuned model that cannot be deleted now."""

    category = Category.TRANSIENT


def chunks_of(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file."""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def copy_model(home: Path, store: Store, alias: str, check: Callable[[], object] = lambda: None) -> None:
    """Copy a model of this home to the store. A copy that is there is written anew. Raise what `check` raises, which is
    called before each file and before the list: without that there is no copy.
    """
    files = sorted(path for path in model_dir(home, alias).iterdir() if path.is_file())
    for path in files:
        check()
        store.write(_place(alias, path.name), chunks_of(path))
    listed = json.dumps({path.name: sha256_of(path) for path in files})
    check()
    store.write(_place(alias, _LIST), [listed.encode()])


def follow_copies(home: Path, where: str, stopped: Event) -> None:
    """Copy every tuned model in the store of files at `where` that is not in this home, and remove here those that were
    deleted elsewhere, again and again until `stopped` is set. Log what fails once.
    """
    known: set[str] = set()
    broken: dict[str, tuple[str, float]] = {}  # by alias: why, and until when it is let alone
    while not stopped.is_set():
        failed: set[str] = set()
        try:
            paths = Store.at(where).objects("models")
        except HeadraceError as error:
            paths, failed = [], {str(error)}
        for alias in (path.rpartition("/")[2] for path in paths):
            reason, until = broken.get(alias, ("", 0.0))
            if time.monotonic() < until:
                failed.add(reason)
                continue
            try:
                sync_copy(home, where, alias, stopped)
            except UnknownModel:  # it was deleted
                pass
            except ConfigurationError as error:
                broken[alias] = str(error), time.monotonic() + _BROKEN_SECONDS
                failed.add(str(error))
            except HeadraceError as error:
                failed.add(str(error))
        if stopped.is_set():
            return
        for reason in failed - known:
            log("models", logging.WARNING, Action.UNAVAILABLE, f"tuned models of other machines: {reason}")
        known = failed
        stopped.wait(_FOLLOW_SECONDS)


class SharedModels:
    """The tuned models of other machines, as admission knows them: by their copies in the store of files at `where`,
    without the weights.
    """

    def __init__(self, home: Path, where: str) -> None:
        self._home, self._where, self._lock, self._thread = home, where, Lock(), Thread()
        self._next_of: dict[str, float] = {}  # by alias: when to look for the model again

    def due(self, alias: str) -> bool:
        """Return whether this model is not in this home, and was not looked for a moment ago."""
        is_due = bool(self._where) and self._next_of.get(alias, 0.0) <= time.monotonic()
        return is_due and not is_installed(self._home, alias)

    def known(self, alias: str) -> bool:
        """Return whether this model was found before. It may have been deleted since."""
        return is_installed(self._home / SHARED, alias)

    def look_up(self, aliases: Collection[str]) -> None:
        """Look for these models, and wait for _LOOK_SECONDS at most. A store that does not answer changes nothing."""
        with self._lock:
            if not aliases or self._thread.is_alive():  # the store does not answer
                return
            self._thread = Thread(target=self._look, args=(aliases,), name="tuned models", daemon=True)
            self._thread.start()
            self._thread.join(_LOOK_SECONDS)

    def _look(self, aliases: Collection[str]) -> None:
        for alias in aliases:
            next_in = _FOLLOW_SECONDS
            try:
                sync_copy(self._home / SHARED, self._where, alias, weights=False)
            except Unavailable as error:
                log("models", logging.WARNING, Action.UNAVAILABLE, f"a tuned model of another machine: {error}")
                next_in = _AGAIN_SECONDS
            except (UnknownModel, ConfigurationError):  # it was deleted, or is broken
                pass
            self._next_of[alias] = time.monotonic() + next_in


def sync_copy(home: Path, where: str, alias: str, stopped: Event | None = None, *, weights: bool = True) -> None:
    """Copy a tuned model that is not in this home from the store of files at `where`, or remove it here if it was
    deleted elsewhere. One that is here is served as it is where the store does not answer.

    Raise UnknownModel where it is in neither or was deleted, ConfigurationError for a copy that is not as it was
    written, and Unavailable, also once `stopped` is set.
    """
    is_here = is_installed(home, alias)
    there = f"the file store (HEADRACE_FILES) at {without_secrets(where)}"
    neither = f"{alias} is neither in {models_dir(home)} nor in {there}"
    try:
        store = Store.at(where)
        listed: dict[str, str] | None = json.loads(store.read(_place(alias, _LIST)))
    except NoSuchObject:
        if not is_here:
            raise UnknownModel(neither) from None
    except HeadraceError:
        if not is_here:
            raise
    else:
        if listed is None:
            remove(home, alias)
            raise UnknownModel(f"{neither}: it was deleted")
        if not is_here:
            wanted = {name: sha256 for name, sha256 in listed.items() if weights or name != "model.bin"}
            _fetch(home, store, alias, wanted, stopped)


def _fetch(home: Path, store: Store, alias: str, listed: Mapping[str, str], stopped: Event | None) -> None:
    with staged_model(home, alias) as draft:
        for name, sha256 in listed.items():
            if Path(name).name != name or fetched(store, _place(alias, name), draft / name, stopped) != sha256:
                raise ConfigurationError(
                    f"the copy of {alias} in the file store (HEADRACE_FILES) is not as it was written: the SHA-256 of "
                    f"{name} differs. Nothing was installed: copy the model's folder from the machine that trained it"
                )


def deletable(ledger: Ledger, home: Path, alias: str, tenant: str | None = None) -> ModelCard:
    """Return the card of a tuned model of this home, and of this tenant if one is named. Raise UnknownModel if there is
    none, and ModelInUse.
    """
    card = next((card for card in list_cards(home) if card.alias == alias and alias.startswith(TUNED)), None)
    if card is None or tenant not in (None, card.tenant):
        raise UnknownModel(f"no tuned model {'' if tenant is None else f'of {tenant} '}is called {alias!r}")
    why = ledger.of(TuningRuns).needs(alias)
    if why is None and (label := ledger.of(Applications).label_naming(card.tenant or None, alias)):
        why = f"{label} uses it: move that label first"
    if why is not None:
        raise ModelInUse(f"{alias}: {why}")
    return card


def remove_copy(store: Store, alias: str) -> None:
    """Remove a model's copy, if there is one, from the store of files. It is the first step of a deletion: the model is
    found again where one fails.
    """
    names = [path.rpartition("/")[2] for path in store.objects(f"models/{alias}")]
    if names:
        store.write(_place(alias, _LIST), [b"null"])
        store.remove(_place(alias, name) for name in names if name != _LIST)


def forget_deletion(store: Store, alias: str) -> None:
    """Let a model be made again that was deleted: no home is to remove it before it is copied."""
    store.remove([_place(alias, _LIST)])


def remove_model(ledger: Ledger, home: Path, card: ModelCard) -> None:
    """Remove a model from this home, and its run after the last of its aliases."""
    remove(home, card.alias)
    ledger.of(TuningRuns).forget_alias(card.alias, card.tenant)


def remove(home: Path, alias: str) -> None:
    """Remove a model from this home, if it is here."""
    for folder in (model_dir(home / SHARED, alias), model_dir(home, alias)):
        (folder / CARD_FILE).unlink(missing_ok=True)  # from now on it does not exist
        rmtree(folder, ignore_errors=True)


def fetched(store: Store, path: str, target: Path, stopped: Event | None = None) -> str:
    """Copy an object into a file, and return its SHA-256."""
    digest: Any = hashlib.sha256()
    with store.open(path) as source, target.open("wb") as file:
        while chunk := source.read(_CHUNK):
            if stopped is not None and stopped.is_set():
                raise Unavailable(f"{path} was not fetched: this process ends")
            digest.update(chunk)
            file.write(chunk)
    return str(digest.hexdigest())


def _place(alias: str, name: str) -> str:
    return f"models/{alias}/{name}"

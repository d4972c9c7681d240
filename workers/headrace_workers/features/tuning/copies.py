"""Copies of tuned models in the store of files, from which other homes fetch them.

A copy is the files of the model's folder, and a list of their SHA-256, which is written last: without it there is none.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.files.object_store import NoSuchObject, Store
from headrace_workers.features.generation.models.registry import CARD_FILE, model_dir, sha256_of, staged_model
from headrace_workers.features.tuning.recipe import PREFIX

_LIST: Final = "copy.json"  # the SHA-256 of each file, by its name
_CHUNK: Final = 1024**2


def chunks_of(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file."""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def copy_model(home: Path, store: Store, alias: str) -> None:
    """Copy a model of this home to the store. A copy that is there is written anew."""
    files = sorted(path for path in model_dir(home, alias).iterdir() if path.is_file())
    for path in files:
        store.write(_place(alias, path.name), chunks_of(path))
    listed = json.dumps({path.name: sha256_of(path) for path in files})
    store.write(_place(alias, _LIST), [listed.encode()])


def fetch_missing(home: Path, where: str, aliases: Iterable[str]) -> None:
    """Copy those of these tuned models that are not in this home from the store of files at `where`, if it has them.

    Raise ConfigurationError for a copy that is not as it was written, and Unavailable.
    """
    for alias in aliases:
        if not alias.startswith(PREFIX) or (model_dir(home, alias) / CARD_FILE).is_file():
            continue
        store = Store.at(where)
        with suppress(NoSuchObject):
            listed: dict[str, str] = json.loads(store.read(_place(alias, _LIST)))
            with staged_model(home, alias) as draft:
                for name, sha256 in listed.items():
                    if Path(name).name != name or _fetched(store, _place(alias, name), draft / name) != sha256:
                        raise ConfigurationError(
                            f"the copy of {alias} in the file store (HEADRACE_FILES) is not as it was written: the "
                            f"SHA-256 of {name} differs. Nothing was installed: copy the model's folder from the "
                            "machine that trained it"
                        )


def remove_copy(where: str, alias: str) -> None:
    """Remove a model's copy from the store of files at `where`."""
    store = Store.at(where)
    names = [path.rpartition("/")[2] for path in store.objects(f"models/{alias}")]
    store.remove(_place(alias, name) for name in sorted(names, key=_LIST.__ne__))  # from the list on there is none


def _fetched(store: Store, path: str, target: Path) -> str:
    """Copy an object into a file, and return its SHA-256."""
    digest: Any = hashlib.sha256()
    with store.open(path) as source, target.open("wb") as file:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
    return str(digest.hexdigest())


def _place(alias: str, name: str) -> str:
    return f"models/{alias}/{name}"

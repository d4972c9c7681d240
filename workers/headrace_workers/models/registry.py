"""The models of this home: one folder an alias under `<home>/models/`, each with a `model.toml`, and the models of its
catalogue (catalogue.py), which answer on other machines.

A generator answers the jobs that name it. An embedder turns texts into vectors, for recall and for embedding jobs. A
folder appears whole or not at all: it is made beside its place and then renamed.

Light on purpose (no engine is imported): the bridge asks `alias in registry` for every job that it takes in.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Final

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from headrace_schemas.errors import ConfigurationError, HeadraceError, Unavailable, UnknownModel
from headrace_schemas.limits import Alias
from headrace_schemas.reasons import describe
from headrace_workers.core.log import Action, log
from headrace_workers.core.pipeline.routing import ServedModel
from headrace_workers.core.private_files import private_folder
from headrace_workers.models.catalogue import (
    CATALOGUE_FILE,
    Catalogue,
    CatalogueModel,
    CataloguePrice,
    RemoteModel,
    read_catalogue,
)
from headrace_workers.models.engines.engine import Kind, engines

CARD_FILE: Final = "model.toml"
TUNED: Final = "ft-"  # begins the aliases of tuned models, which are deleted while processes know them
SHARED: Final = "shared"  # in a home: tuned models of other machines, without their weights
RESCAN_SECONDS: Final = 1.0  # whoever asks for all aliases again and again costs one look at all folders a second
_NO_CATALOGUE: Final = Catalogue()
_ALIAS: Final = TypeAdapter[str](Alias)
Progress = Callable[[str, float], None]  # what is being done, and how much of the whole is done (0 to 1)


def broken_model(problem: str) -> ConfigurationError:
    """Return the error for this problem of a model's files, which says how to mend it."""
    return ConfigurationError(f"{problem}; pull or convert the model again")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """The facts about a model: the content of its `model.toml`.

    `source` says what it was made from, `licence` is an SPDX identifier (or "unknown"), `sha256` is of `model.bin`
    as it was written ("" where an engine has no weights), `size_bytes` of the whole folder, `context_length` is
    prompt and answer together in tokens; for an embedder, what it reads of a text. `weight_range` names the bound of
    int8 weights (see `quantization`); it is "" for other formats, and for older int8 models, which use all of ±127.
    `repetition_penalty` is what its answers have where a job names none: 1 is none. With a `tenant`, it is a model of
    that tenant alone. `remote` is of a model of the catalogue, which has no folder.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    alias: str
    engine: str
    source: str
    licence: str
    sha256: str
    quantization: str
    size_bytes: int
    context_length: Annotated[int, Field(ge=2, le=100_000_000)]  # an answer needs a token beside the prompt's
    kind: Kind = "generator"
    weight_range: str = ""
    repetition_penalty: Annotated[float, Field(gt=0, le=2.0)] = 1.0
    tenant: str = ""
    remote: RemoteModel | None = None

    @property
    def number_format(self) -> str:
        """Return the quantization with the bound of its weights, such as `int8_pairs`. It is part of the identity."""
        return with_range(self.quantization, self.weight_range)

    @property
    def provider(self) -> str | None:
        """Return the provider whose machine runs it; None for a machine of the deployment."""
        return None if self.remote is None or self.remote.is_own else self.remote.provider


def may_name(tenant: str, card: ModelCard) -> bool:
    """Return True if a tenant may use, see and delete a model. Another tenant's model does not exist for it."""
    return card.tenant in ("", tenant)


_CARD: Final = TypeAdapter(ModelCard)


def with_range(kind: str, weight_range: str) -> str:
    """Return a number format with the bound of its int8 weights; a format without int8 weights as it is."""
    return f"{kind}_{weight_range}" if weight_range and kind.startswith("int8") else kind


def models_dir(home: Path) -> Path:
    """Return the folder that holds the folders of all models."""
    return home / "models"


def model_dir(home: Path, alias: str) -> Path:
    """Return the folder of one model.

    Raise ConfigurationError for an invalid alias, so that no path leaves the home.
    """
    try:
        _ALIAS.validate_python(alias)
    except ValidationError as error:
        raise ConfigurationError(
            f"{alias!r} cannot name a model: use a-z, 0-9, '.', '_' and '-', at most 64, the first a letter or digit"
        ) from error
    return models_dir(home) / alias


def is_installed(home: Path, alias: str) -> bool:
    """Return whether the home has a model of this alias. Raise ConfigurationError for an invalid alias."""
    return (model_dir(home, alias) / CARD_FILE).is_file()


def write_card(folder: Path, card: ModelCard) -> None:
    """Write `model.toml` into the folder, whole or not at all."""
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in card_fields(card).items()]
    draft = folder / f".{CARD_FILE}.{os.getpid()}"
    draft.write_text("\n".join(lines) + "\n", encoding="utf-8")
    draft.replace(folder / CARD_FILE)


def read_card(folder: Path) -> ModelCard:
    """Return the card in a folder. Raise ConfigurationError, which says what is wrong with the file."""
    path = folder / CARD_FILE
    try:
        card = _CARD.validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise broken_model(f"{path}: {describe(error)}") from error
    except (OSError, ValueError) as error:
        raise broken_model(f"{path} cannot be read: {error}") from error
    known = [name for name, engine in engines(card.kind).items() if not engine.remote]  # those stand in the catalogue
    if card.engine not in known:
        raise ConfigurationError(f"{path}: engine {card.engine!r} of this {card.kind} is not one of {', '.join(known)}")
    return card


def load_card(home: Path, alias: str) -> ModelCard:
    """Return the card of one alias. Raise UnknownModel, which names the models that are there."""
    folder = model_dir(home, alias)
    if not (folder / CARD_FILE).is_file() and (entry := read_catalogue(home).models.get(alias)) is not None:
        return remote_card(alias, entry)
    if not (folder / CARD_FILE).is_file():
        raise UnknownModel(_unknown(alias, sorted(card.alias for card in list_cards(home)), home))
    return read_card(folder)


def list_cards(home: Path) -> list[ModelCard]:
    """Return all cards in order of alias. A folder with a broken card, and a broken catalogue, is logged and left
    out.
    """
    cards = {alias: remote_card(alias, entry) for alias, entry in readable_catalogue(home).models.items()}
    cards |= {card.alias: card for folder in _folders(home) if (card := _card_or_none(folder)) is not None}
    return [cards[alias] for alias in sorted(cards)]


def card_file(home: Path, card: ModelCard) -> Path:
    """Return the file that says that a model is here: its folder's card, or the catalogue."""
    return home / CATALOGUE_FILE if card.remote else model_dir(home, card.alias) / CARD_FILE


def card_fields(card: ModelCard) -> dict[str, object]:
    """Return the fields of a card for people and programs: a key is named by its place, and never shown."""
    shown: dict[str, object] = {name: value for name, value in asdict(card).items() if name != "remote"}
    if card.remote is not None:
        remote = card.remote.model_dump(exclude={"model", "endpoint"}, exclude_none=True)
        key = {"api_key": str(card.remote.api_key)} if card.remote.api_key else {}
        sets = {"lacks": sorted(card.remote.lacks), "formats": sorted(card.remote.formats)}
        shown["remote"] = {**remote, **sets, **key}
    return shown


def remote_card(alias: str, entry: CatalogueModel) -> ModelCard:
    """Return the card of a model of the catalogue. Raise ConfigurationError for an engine that is not installed."""
    if entry.engine not in (known := engines("generator")) or not known[entry.engine].remote:
        remote = ", ".join(name for name, engine in known.items() if engine.remote) or "none"
        raise ConfigurationError(f"{CATALOGUE_FILE}: engine {entry.engine!r} of {alias} is not one of {remote}")
    return ModelCard(
        alias=alias,
        engine=entry.engine,
        source=f"{entry.endpoint}#{entry.model}",
        licence="unknown",
        sha256="",
        quantization="remote",
        size_bytes=0,
        context_length=entry.context_length,
        remote=entry.remote,
    )


class Registry:
    """The models that answer jobs: the cards of all generators, in memory. Embedders are not among them. A folder goes
    before an entry of the catalogue with the same alias.

    A hit never looks for its model on the disk, unless that is a tuned model, which may be deleted. A miss looks for
    that one model, so that what was just pulled is there at once; all are looked through at most once a second, and so
    is the catalogue for names that are known.
    """

    def __init__(self, home: Path, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._home = home
        self._monotonic = monotonic
        self._cards: dict[str, ModelCard] = {}
        self._scanned_at = float("-inf")
        # Unusable cards and embedders' cards, by alias: each is read, and reported if it must be, once.
        self._left_out: dict[str, tuple[int, int, int]] = {}
        self._catalogue = Catalogue()
        self._catalogue_seen: tuple[int, int, int] | None = None
        self._catalogue_at = float("-inf")

    def __contains__(self, alias: str) -> bool:
        return self.find(alias) is not None

    def get(self, alias: str) -> ModelCard:
        """Return the card of an alias. Raise UnknownModel, which names the models that are there."""
        card = self.find(alias)
        if card is None:
            raise UnknownModel(_unknown(alias, self.aliases(), self._home))
        return card

    def version(self, alias: str) -> str:
        """Return the alias with what its answers depend on: number format, weights and its own penalty.

        Return the alias alone where the model is not here.
        """
        card = self.find(alias)
        if card is None:
            return alias
        if card.remote is not None:
            return f"{alias}/{card.source}"
        penalty = "" if card.repetition_penalty == 1 else f"/r{card.repetition_penalty}"
        return f"{alias}/{card.number_format}/{card.sha256[:12]}{penalty}"

    def aliases(self) -> list[str]:
        """Return the known aliases in order, at most a second old."""
        now = self._monotonic()
        if now - self._scanned_at >= RESCAN_SECONDS:
            self._scanned_at = now
            self._cards = {alias: card for alias in self._names() if (card := self._look(alias)) is not None}
        return sorted(self._cards)

    def served(self) -> list[ServedModel]:
        """Return what the bridge needs to know of each model to give out its work."""
        cards = [self._cards[alias] for alias in self.aliases()]
        return [ServedModel(card.alias, card.remote.open_calls if card.remote else 0) for card in cards]

    def chain(self, alias: str) -> tuple[str, ...] | None:
        """Return the models of a chain of the catalogue; None where no chain has this name."""
        known = alias in self._cards or alias in self._catalogue.chains
        chain = self._recent_catalogue(known=known).chains.get(alias)
        return None if chain is None else chain.models

    def provider(self, alias: str) -> str | None:
        """Return the provider whose machine runs the model; None for a machine of the deployment, or no model."""
        card = self.find(alias)
        return None if card is None else card.provider

    def knows_tools(self, alias: str) -> bool:
        """Return True if a model can be asked to choose whether to call a tool: its provider or its chat template takes
        tools, or its engine holds it to a grammar.
        """
        card = self.find(alias)
        if card is None:
            return False
        if card.remote is not None:
            return "tools" not in card.remote.lacks
        return engines("generator")[card.engine].grammar or template_knows_tools(self.folder(alias), card)

    @property
    def catalogue(self) -> Catalogue:
        """Return the catalogue as it is now; where it is broken, the one before it. It is read if it has changed."""
        return self._read_catalogue()

    def price(self, alias: str) -> CataloguePrice | None:
        """Return the price that the catalogue sets for a model, as it was a second ago; None where it sets none."""
        return self._recent_catalogue(known=True).prices.get(alias)

    def _names(self) -> set[str]:
        return {folder.name for folder in _folders(self._home)} | self._read_catalogue().models.keys()

    def _recent_catalogue(self, *, known: bool) -> Catalogue:
        """Return the catalogue, at most a second old if it knows what is asked for: every job asks."""
        if known and self._monotonic() - self._catalogue_at < RESCAN_SECONDS:
            return self._catalogue
        return self._read_catalogue()

    def _read_catalogue(self) -> Catalogue:
        """Return the catalogue as it is now. One that is broken is reported once, and the one before it holds."""
        self._catalogue_at = self._monotonic()
        try:
            stat = (self._home / CATALOGUE_FILE).stat()
            seen = stat.st_ino, stat.st_mtime_ns, stat.st_size
        except OSError:
            seen = None
        if seen != self._catalogue_seen:
            self._catalogue_seen = seen
            self._catalogue = readable_catalogue(self._home, self._catalogue)
        return self._catalogue

    def folder(self, alias: str) -> Path:
        """Return the folder of a model, or of what is known of a tuned model of another machine."""
        folder = model_dir(self._home, alias)
        is_away = alias.startswith(TUNED) and not (folder / CARD_FILE).is_file()
        return model_dir(self._home / SHARED, alias) if is_away else folder

    def find(self, alias: str) -> ModelCard | None:
        """Return the card of an alias; None where no model has it."""
        card = self._cards.get(alias)
        if card is not None and (not alias.startswith(TUNED) or (self.folder(alias) / CARD_FILE).is_file()):
            return card
        self._cards.pop(alias, None)
        if (card := self._look(alias)) is not None:
            self._cards[alias] = card
        return card

    def _look(self, alias: str) -> ModelCard | None:
        try:
            folder = self.folder(alias)
            stat = (folder / CARD_FILE).stat()
        except ConfigurationError:  # no alias
            return None
        except OSError:  # no folder of this name
            return self._look_in_catalogue(alias)
        written = stat.st_ino, stat.st_mtime_ns, stat.st_size
        if self._left_out.get(alias) == written:
            return None
        card = _card_or_none(folder)
        if card is None or card.kind != "generator":
            self._left_out[alias] = written
            return None
        return card

    def _look_in_catalogue(self, alias: str) -> ModelCard | None:
        entry = self._read_catalogue().models.get(alias)
        return None if entry is None else remote_card(alias, entry)


@lru_cache(maxsize=64)
def template_knows_tools(folder: Path, _card: ModelCard) -> bool:
    """Return True if the chat template of a model takes tools, and its model writes calls in a form that is known."""
    from headrace_workers.models.engines.prompts import load_chat_template

    try:
        return load_chat_template(folder).knows_tools
    except (ConfigurationError, OSError):  # an engine without a template, or a broken one, which its worker reports
        return False


def readable_catalogue(home: Path, before: Catalogue = _NO_CATALOGUE) -> Catalogue:
    """Return the catalogue; where it is broken, the one `before` it, and log why."""
    try:
        catalogue = read_catalogue(home)
        for alias, entry in catalogue.models.items():
            remote_card(alias, entry)
    except ConfigurationError as error:
        log("models", logging.WARNING, Action.MODEL_LEFT_OUT, f"the catalogue was left as it was: {error}")
        return before
    return catalogue


def _folders(home: Path) -> Iterator[Path]:
    # A name that begins with a dot is a model that is still being made.
    for path in sorted(models_dir(home).glob(f"[!.]*/{CARD_FILE}")):
        yield path.parent


def _card_or_none(folder: Path) -> ModelCard | None:
    try:
        card = read_card(folder)
    except ConfigurationError as error:
        log("models", logging.WARNING, Action.MODEL_LEFT_OUT, f"model left out: {error}")
        return None
    if card.alias != folder.name:
        reason = f"{folder / CARD_FILE} names the alias {card.alias!r}, its folder another"
        log("models", logging.WARNING, Action.MODEL_LEFT_OUT, f"model left out: {reason}")
        return None
    return card


def _unknown(alias: str, known: list[str], home: Path) -> str:
    have = ", ".join(known) if known else "none"
    return f"model {alias!r} is not in {models_dir(home)}; known there: {have}; `headrace models pull` gets one"


class ChecksumMismatch(HeadraceError):
    """The weights that arrived differ from the requested ones."""


@contextmanager
def staged_model(home: Path, alias: str) -> Iterator[Path]:
    """Yield a fresh folder that takes the place of the alias's folder when the block ends well, and vanishes
    otherwise.
    """
    target = model_dir(home, alias)
    try:
        private_folder(target.parent)
        # The leading dot hides it from the registry; the same folder means the same file system: renaming is atomic.
        with tempfile.TemporaryDirectory(prefix=f".{alias}-", dir=target.parent, ignore_cleanup_errors=True) as scratch:
            draft = Path(scratch) / "new"
            private_folder(draft)
            yield draft
            if target.exists():
                target.rename(Path(scratch) / "old")
            draft.rename(target)
    except OSError as error:
        raise Unavailable(
            f"the model {alias} cannot be made: {error.strerror or type(error).__name__}; HEADRACE_HOME must be a "
            "folder that this user can write, with room in it"
        ) from error


def sha256_of(*paths: Path) -> str:
    """Return the SHA-256 of the file in hex; of several files, of their bytes one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def folder_size(folder: Path) -> int:
    """Return the bytes of all files in the folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def copy_present(names: tuple[str, ...], source: Path, folder: Path) -> None:
    """Copy the named files that the source folder has."""
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)

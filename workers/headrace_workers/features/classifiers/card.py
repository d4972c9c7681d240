"""Classifiers of a home: each is a model's folder with a head, and a card that says what the head answers and how well.

<home>/models/urgent/model.toml          as every model has it: its licence, its tenant
<home>/models/urgent/classifier.toml     the question, the labels, the embedder, the threshold, the agreement
<home>/models/urgent/head.safetensors    the weights
"""

import json
import tomllib
from dataclasses import fields
from pathlib import Path
from shutil import rmtree
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from headrace_schemas.decision import Choice, ChoiceValue, Predicate, ScaleQuestion
from headrace_schemas.errors import ConfigurationError, UnknownModel
from headrace_schemas.limits import Key, Text
from headrace_schemas.reasons import describe
from headrace_workers.features.classifiers.engine import ENGINE_NAME
from headrace_workers.features.classifiers.novelty import Novelty
from headrace_workers.features.classifiers.training import MOST_CLASSES, Rule
from headrace_workers.models.heads import Head, load_head, save_head
from headrace_workers.models.registry import (
    ModelCard,
    broken_model,
    folder_size,
    list_cards,
    load_card,
    may_name,
    model_dir,
    sha256_of,
    staged_model,
    write_card,
)

_CARD_FILE: Final = "classifier.toml"
_HEAD_FILE: Final = "head.safetensors"
_MOST_BYTES: Final = 10_000_000
_Share = Annotated[float, Field(ge=0, le=1)]


class Card(BaseModel):
    """The content of a `classifier.toml`: the question that it answers, by its name, labels and instructions if given.
    With `none` the head has one more class for a text that no label fits; the figures are of the `held_out` rows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: Key
    instructions: Text | None = None
    labels: Annotated[tuple[ChoiceValue, ...], Field(min_length=2, max_length=MOST_CLASSES)]
    none: bool
    embedder: str
    threshold: _Share
    least_logit: float
    agreement: _Share
    agreement_bound: _Share
    rows: int
    held_out: int
    served: int
    agreed: int
    right: int
    foreign: int
    calibration_error: _Share
    calibrated: bool
    data_sha256: str
    seed: int

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("labels: each stands there once")
        return self

    @property
    def rule(self) -> Rule:
        """Return the rule by which it answers."""
        return Rule(self.threshold, self.least_logit, len(self.labels))

    def places(self, question: Predicate | Choice | ScaleQuestion) -> list[int] | None:
        """Return the class of each label of a question; None for one that it does not answer. True is not the text
        "true".
        """
        labels = values_of(question)
        if question.name != self.question or self.instructions not in (None, question.instructions):
            return None
        if len(labels) != len(self.labels) or set(labels) != set(self.labels):
            return None
        return [self.labels.index(label) for label in labels]


def values_of(question: Predicate | Choice | ScaleQuestion) -> tuple[str | bool, ...]:
    """Return the labels of a question in the order of their probabilities."""
    match question:
        case Choice():
            return tuple(choice.value for choice in question.choices)
        case ScaleQuestion():
            return tuple(level.label for level in question.levels)
    return True, False


def save_classifier(
    home: Path,
    alias: str,
    card: Card,
    head: Head,
    novelty: Novelty,
    *,
    source: str,
    licence: str,
    tenant: str,
    context_length: int,
) -> None:
    """Write a classifier in place of the one of this name. Raise ConfigurationError if the name is of another model,
    or of another tenant's.
    """
    check_name(home, alias, tenant)
    with staged_model(home, alias) as folder:
        save_head(folder / _HEAD_FILE, head, vars(novelty))
        values = card.model_dump(mode="json", exclude_none=True).items()
        lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in values]
        (folder / _CARD_FILE).write_text("".join(lines).replace("\x7f", "\\u007f"), encoding="utf-8")
        model = ModelCard(
            alias=alias,
            engine=ENGINE_NAME,
            source=source,
            licence=licence,
            sha256=sha256_of(folder / _HEAD_FILE, folder / _CARD_FILE),
            quantization="float32",
            size_bytes=folder_size(folder),
            context_length=context_length,
            tenant=tenant,
        )
        write_card(folder, model)


def check_name(home: Path, alias: str, tenant: str) -> None:
    """Raise ConfigurationError if a classifier of this tenant cannot have this name."""
    if not model_dir(home, alias).exists():
        return
    card = load_card(home, alias)
    if card.engine != ENGINE_NAME or card.tenant != tenant:
        raise ConfigurationError(f"{alias} is the name of another model here: choose another name")


def load_classifier(folder: Path, model: ModelCard) -> tuple[Card, Head, Novelty]:
    """Return the card, the head and its novelty test in a folder. Raise ConfigurationError, which says what is wrong
    with them.
    """
    path = folder / _CARD_FILE
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise broken_model(f"{path} has more than {_MOST_BYTES:,} bytes")
        card = Card.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        digest = sha256_of(folder / _HEAD_FILE, path)
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {describe(error)}") from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}; train the classifier again") from error
    if digest != model.sha256:
        raise ConfigurationError(f"the files of the classifier {model.alias} were changed; train it again")
    head, beside = load_head(folder / _HEAD_FILE, again := f"headrace classifier train {model.alias}")
    if len(head.bias) != len(card.labels) + card.none:
        raise ConfigurationError(f"{path}: the head has {len(head.bias)} classes; train it again with `{again}`")
    if beside.keys() != {field.name for field in fields(Novelty)} or not (novelty := Novelty(**beside)).fits(
        head.weights.shape[1]
    ):
        raise ConfigurationError(f"{path}: the head has no usable novelty test; train it again with `{again}`")
    return card, head, novelty


def classifiers(home: Path, tenant: str | None = None) -> list[ModelCard]:
    """Return the cards of the classifiers, of all tenants or of those that a tenant may name."""
    cards = [card for card in list_cards(home) if card.engine == ENGINE_NAME]
    return [card for card in cards if tenant is None or may_name(tenant, card)]


def find_classifier(home: Path, alias: str, tenant: str | None = None) -> ModelCard:
    """Return the card of a classifier. Raise UnknownModel where none that the tenant may name has it."""
    cards = {card.alias: card for card in classifiers(home, tenant)}
    if alias not in cards:
        raise UnknownModel(f"no classifier is called {alias!r}; here are: {', '.join(cards) or 'none'}")
    return cards[alias]


def delete_classifier(home: Path, alias: str, tenant: str | None = None) -> None:
    """Delete a classifier. Raise UnknownModel as `find_classifier` does."""
    find_classifier(home, alias, tenant)
    folder = model_dir(home, alias)
    (folder / "model.toml").unlink()  # then no worker finds the rest
    rmtree(folder)

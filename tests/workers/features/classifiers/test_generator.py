"""A classifier as a model: what it answers, when it abstains, and which files it loads."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from tests.workers.features.classifiers.labelled import EMBEDDER, WORDS, texts, write

from headrace_schemas import HeadraceError, Message, Sampling
from headrace_schemas.decision import Choice, Predicate, ScaleQuestion
from headrace_schemas.errors import ConfigurationError, InvalidRecord, UnknownModel
from headrace_workers.features.classifiers.card import (
    Card,
    classifiers,
    delete_classifier,
    load_classifier,
    save_classifier,
)
from headrace_workers.features.classifiers.training import Trained, read_data, train, vectors_of
from headrace_workers.features.decisions.deciding import Decided, DecisionRequest
from headrace_workers.models.engines.load_generator import load_generator
from headrace_workers.models.generator import Abstained, NoProbabilities, Request
from headrace_workers.models.heads import Head
from headrace_workers.models.registry import model_dir, read_card, write_card
from headrace_workers.testing import make_echo_model, make_hash_embedder


def question(name: str | None = "kind", instructions: str = "What is it about?", choices: Sequence[Any] = tuple(WORDS)):
    options = [{"value": value} for value in choices]
    return Choice.model_validate({"type": "choice", "name": name, "instructions": instructions, "choices": options})


def asking(text: str, *questions: Any, **changes: Any) -> DecisionRequest:
    return DecisionRequest((Message(role="user", content=text),), questions or (question(),), **changes)


@cache
def _trained(words: str) -> tuple[tuple[Any, ...], str, Trained]:
    with TemporaryDirectory() as folder:
        rows = texts(400, words={label: names for label, *names in json.loads(words)})
        data = read_data(write(Path(folder) / "labels.jsonl", rows), EMBEDDER, 0)
        trained = train(
            vectors_of(data, EMBEDDER), data.labels, len(data.classes), len(data.classes), 0.9, 0, EMBEDDER.id
        )
        return data.classes, data.digest, trained


def make(home: Path, alias: str = "kinds", *, tenant: str = "", **changes: Any) -> tuple[Card, Head]:
    """Write a classifier of three labels, and the embedder that it needs."""
    make_hash_embedder(home)
    words = changes.pop("words", WORDS)
    novelty, embedder = changes.pop("novelty", None), changes.pop("embedder_id", EMBEDDER.id)
    classes, digest, trained = _trained(json.dumps([(key, *values) for key, values in words.items()]))
    fields = {
        "question": "kind", "labels": classes, "none": False, "embedder": "hash",
        "threshold": trained.rule.threshold, "least_logit": trained.rule.least_logit, "agreement": 0.9,
        "agreement_bound": trained.figures.agreement_bound, "rows": 400, "held_out": 80,
        "served": trained.figures.served, "agreed": trained.figures.agreed, "right": trained.figures.right,
        "foreign": trained.figures.foreign,
        "calibration_error": 0.0, "calibrated": True,
        "data_sha256": digest, "seed": 0,
    }  # fmt: skip
    card = Card(**(fields | changes))
    save_classifier(
        home,
        alias,
        card,
        replace(trained.head, embedder=embedder),
        novelty or trained.novelty,
        source="labels.jsonl",
        licence="CC0-1.0",
        tenant=tenant,
        context_length=256,
    )
    return card, trained.head


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """With the classifier `kinds` of the question `kind`."""
    make(tmp_path)
    return tmp_path


def answered(home: Path, *requests: DecisionRequest) -> list[Decided | HeadraceError]:
    found: list[Decided | HeadraceError] = load_generator(home, "kinds").decide(requests)  # type: ignore[attr-defined]
    return found


def test_it_answers_with_calibrated_probabilities_in_the_order_of_the_choices(home: Path) -> None:
    turned = question(choices=("praise", "billing", "broken"))
    (one, other) = answered(home, asking("invoice refund charge"), asking("invoice refund charge", turned))
    assert isinstance(one, Decided)
    assert isinstance(other, Decided)
    (scores,), (of_turned,) = one.answers, other.answers
    assert scores is not None
    assert of_turned is not None
    assert scores.probabilities[0] > 0.9
    assert sum(scores.probabilities) == pytest.approx(1)
    assert of_turned.probabilities == pytest.approx((scores.probabilities[2], *scores.probabilities[:2]))
    assert (scores.calibrated, scores.stated, scores.mass) == (True, False, None)
    assert (one.prompt_tokens, one.completion_tokens) == (3, 0)


SURE = "invoice refund charge"
TRAINED_FOR = "it was trained for the question kind alone"
UNREAD = {
    "another question": (asking(SURE, question("urgency")), TRAINED_FOR),
    "a question without a name": (asking(SURE, question(None)), TRAINED_FOR),
    "other choices": (asking(SURE, question(choices=("billing", "broken"))), TRAINED_FOR),
    "one choice more": (asking(SURE, question(choices=(*WORDS, "other"))), TRAINED_FOR),
    "two questions": (asking(SURE, question(), question("urgency")), TRAINED_FOR),
    "a predicate": (asking(SURE, Predicate(type="predicate", name="kind", instructions="Is it?")), TRAINED_FOR),
    "a conversation": (
        replace(asking(""), messages=(Message(role="user", content=SURE), Message(role="assistant", content="What?"))),
        "it reads an input, and no conversation",
    ),
    "a turn of somebody else": (
        replace(asking(""), messages=(Message(role="system", content=SURE),)), "it reads an input, and no conversation",
    ),
    "too long an input": (asking(f"{SURE} " * 86), "the input has 258 tokens, and it reads 256"),
    "an input like no other": (
        asking("zebra quartz umbrella"), "the input is outside what the classifier was trained on",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", UNREAD)
def test_it_abstains_from_all_that_it_was_not_trained_for(home: Path, what: str) -> None:
    request, words = UNREAD[what]
    sure, decided = answered(home, asking(SURE), request)
    assert isinstance(sure, Decided)
    assert isinstance(decided, Abstained)
    assert str(decided).startswith(words)


def test_it_abstains_below_its_threshold(tmp_path: Path) -> None:
    unclear = asking("invoice thanks")
    _, _, trained = _trained(json.dumps([(key, *values) for key, values in WORDS.items()]))
    lenient = replace(trained.novelty, scale=np.array([0, 1, 0, 1, 1e9], np.float32))
    for threshold, kind in ((0.999, Abstained), (0.0, Decided)):
        make(tmp_path, threshold=threshold, least_logit=-99.0, novelty=lenient)
        (answer,) = answered(tmp_path, unclear)
        assert isinstance(answer, kind)
        if isinstance(answer, Abstained):
            assert str(answer).startswith("it is not sure: 0.")
            assert answer.prompt_tokens == 2


def test_instructions_of_its_card_must_be_those_of_the_question(tmp_path: Path) -> None:
    make(tmp_path, instructions="What is it about?")
    same, other = answered(
        tmp_path,
        asking("invoice refund charge"),
        asking("invoice refund charge", question(instructions="Whose is it?")),
    )
    assert isinstance(same, Decided)
    assert isinstance(other, Abstained)


def test_true_is_not_the_text_true(tmp_path: Path) -> None:
    make(tmp_path, words={True: WORDS["billing"], False: WORDS["praise"]})
    predicate = Predicate(type="predicate", name="kind", instructions="Is it about money?")
    yes, boolean, text = answered(
        tmp_path,
        asking("invoice refund charge", predicate),
        asking("invoice refund charge", question(choices=(False, True))),
        asking("invoice refund charge", question(choices=("false", "true"))),
    )
    assert isinstance(yes, Decided)
    assert yes.answers[0] is not None
    assert yes.answers[0].probabilities[0] > 0.9
    assert isinstance(boolean, Decided)
    assert boolean.answers[0] is not None
    assert boolean.answers[0].probabilities[1] > 0.9
    assert isinstance(text, Abstained)


def test_the_levels_of_a_scale_are_labels(home: Path) -> None:
    scale = ScaleQuestion.model_validate({
        "type": "score", "name": "kind", "instructions": "Which?", "levels": [{"label": label} for label in WORDS],
    })  # fmt: skip
    (decided,) = answered(home, asking("crash error screen", scale))
    assert isinstance(decided, Decided)
    assert decided.answers[0] is not None
    assert decided.answers[0].probabilities[1] > 0.9


def test_a_text_that_no_choice_fits_is_left_to_others(tmp_path: Path) -> None:
    """The head's last class stands for none of the labels."""
    card, head = make(tmp_path)
    _, _, novelty = load_classifier(model_dir(tmp_path, "kinds"), read_card(model_dir(tmp_path, "kinds")))
    whole = replace(
        head,
        weights=np.vstack([head.weights, -head.weights.sum(axis=0)]),
        bias=np.append(head.bias, np.float32(1_000.0)),
    )
    save_classifier(
        tmp_path, "kinds", card.model_copy(update={"none": True}), whole, novelty, source="", licence="",
        tenant="", context_length=256,
    )  # fmt: skip
    (decided,) = answered(tmp_path, asking("invoice refund charge"))
    assert isinstance(decided, Abstained)
    assert "none of the choices fits" in str(decided)


def test_it_writes_no_text_and_gives_no_probabilities_of_tokens(home: Path) -> None:
    model = load_generator(home, "kinds")
    (completion,) = model.generate([Request((Message(role="user", content="hi"),), Sampling())])
    assert isinstance(completion, InvalidRecord)
    assert "answers decisions and writes no text" in str(completion)
    with pytest.raises(NoProbabilities):
        model.label_probabilities([])


def test_an_embedder_that_changed_under_a_trained_head_is_refused_by_name(tmp_path: Path) -> None:
    make(tmp_path, embedder_id="hash/none/0123456789ab")
    with pytest.raises(ConfigurationError, match=rf"kinds was trained over hash/none/0123456789ab, and "
                       rf"the embedder here is {EMBEDDER.id}: train it again"):  # fmt: skip
        load_generator(tmp_path, "kinds")


def test_an_embedder_that_is_gone_is_named(home: Path) -> None:
    (model_dir(home, "hash") / "model.toml").unlink()
    with pytest.raises(UnknownModel, match="no embedder is called 'hash'"):
        load_generator(home, "kinds")


def test_files_that_were_changed_are_refused(home: Path) -> None:
    folder = model_dir(home, "kinds")
    text = (folder / "classifier.toml").read_text()
    (folder / "classifier.toml").write_text(text.replace("rows = 400", "rows = 401"))
    with pytest.raises(ConfigurationError, match="files of the classifier kinds were changed"):
        load_generator(home, "kinds")
    (folder / "classifier.toml").write_text(text.replace('question = "kind"\n', ""))
    with pytest.raises(ConfigurationError, match=r"classifier\.toml: question"):
        load_generator(home, "kinds")


def test_a_card_reads_back_as_it_was_written(tmp_path: Path) -> None:
    names = {'a \x7f "b"': WORDS["billing"], True: WORDS["broken"], "true": WORDS["praise"]}
    card, head = make(tmp_path, words=names, instructions="one\ntwo")
    folder = model_dir(tmp_path, "kinds")
    found, same, _ = load_classifier(folder, read_card(folder))
    assert found == card
    assert set(found.labels) == set(names)
    assert np.array_equal(same.weights, head.weights)
    assert read_card(folder).licence == "CC0-1.0"


def test_a_classifier_takes_no_name_of_another_model_or_tenant(home: Path) -> None:
    make_echo_model(home)
    for alias, tenant in (("echo", ""), ("kinds", "acme")):
        with pytest.raises(ConfigurationError, match=f"{alias} is the name of another model"):
            make(home, alias, tenant=tenant)
    make(home, "kinds")


def test_only_its_tenant_sees_and_deletes_a_classifier(home: Path) -> None:
    make(home, "hers", tenant="acme")
    make_echo_model(home)
    assert [[card.alias for card in classifiers(home, tenant)] for tenant in (None, "acme", "globex")] == [
        ["hers", "kinds"], ["hers", "kinds"], ["kinds"],
    ]  # fmt: skip
    for alias in ("hers", "echo", "nobodys"):
        with pytest.raises(UnknownModel, match=f"no classifier is called '{alias}'; here are: kinds"):
            delete_classifier(home, alias, "globex")
    delete_classifier(home, "hers", "acme")
    assert not model_dir(home, "hers").exists()


def test_a_card_of_a_broken_toml_is_named(home: Path) -> None:
    folder = model_dir(home, "kinds")
    write_card(folder, replace(read_card(folder), sha256="0" * 64))
    with pytest.raises(ConfigurationError, match="were changed; train it again"):
        load_generator(home, "kinds")

import gzip
import json
import random
import re
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tools.profanity_weights import weights

from headrace_workers.features.moderation.profanity import (
    WEIGHTS_VERSION,
    WINDOW_WORDS,
    ProfanityDetector,
    _sentence_ends,
    load,
    plain_words,
)


def found(detector: ProfanityDetector, text: str, least: float = 0.9) -> list[str]:
    return [text[d.start : d.end] for d in detector.detect([text])[0] if d.score >= least]


@pytest.mark.parametrize("word", ["idiot", "moron", "bullshit", "stupid", "asshole", "Crap"])
def test_an_insult_is_found_in_a_long_text(profanity: ProfanityDetector, word: str) -> None:
    filler = "The quarterly report shows that revenue grew in the north region. "
    assert found(profanity, f"{filler * 20}You are such a {word}, honestly. {filler * 20}") == [word]


@pytest.mark.parametrize(
    "text",
    [
        "The meeting is on Tuesday, and the minutes follow on Wednesday.",
        "Shut the valve, kill the process and let the old session die.",
        "Die Rechnung ist fällig; die Ware kam an.",
        "The clinic offers sexual health advice and breast cancer screening.",
        "The gay community centre and the Jewish museum are open to Muslim visitors.",
        "The pig farm sells fat cocks and hens. The dumb terminal hung.",
        "Rubbish is collected on Monday, garbage on Thursday.",
        "",
        "…",
    ],
)
def test_plain_prose_is_no_profanity(profanity: ProfanityDetector, text: str) -> None:
    """Everyday words, groups of people and medicine do not reach the default policy's score."""
    assert found(profanity, text) == []


@pytest.mark.parametrize(
    "text",
    ["Governor Dick Thornburgh spoke.", "Moby Dick is a novel.", "The setup is idiot proof.", "an idiot-proof lid",
     "Scunthorpe United won.", "It was a crapshoot."],
)  # fmt: skip
def test_names_and_compounds_are_spared(profanity: ProfanityDetector, text: str) -> None:
    assert found(profanity, text) == []


@pytest.mark.parametrize(
    ("text", "word"), [("You Dick.", "Dick"), ("He is a Dick", "Dick"), ("an idiot, proof", "idiot")]
)
def test_the_word_itself_is_not_spared(profanity: ProfanityDetector, text: str, word: str) -> None:
    assert found(profanity, text) == [word]


def test_the_weights_are_those_of_the_package() -> None:
    packed = files("headrace_workers.features.moderation").joinpath("profanity_weights.json.gz").read_bytes()
    shipped = json.loads(gzip.decompress(packed))
    assert shipped == weights()
    assert shipped["source"]["license"] == "MIT"
    assert shipped["source"]["version"] == WEIGHTS_VERSION


def test_probabilities_of_whole_texts_are_those_of_the_package() -> None:
    from profanity_check import predict_prob

    model, draw = load(frozenset()), random.Random(7)
    known = list(model.vocabulary)
    pieces = [
        *draw.choices(known, k=400),
        "xyzzy",
        "the",
        "a",
        "é",
        "Straße",
        "ΣΊΣΥΦΟΣ",
        "слово",
        "词",
        "😀",
        "１２",
        "_",
        "42",
        "\n",
        "-",
    ]
    texts = [
        draw.choice((" ", ", ", "\t", ". ")).join(draw.choices(pieces, k=draw.randint(0, 30))) for _ in range(2_000)
    ]
    texts += [word.upper() for word in draw.sample(known, 1_000)]
    texts += ["", " ", "\x00", "a b c", "…", "😀" * 50, "x" * 100_000, "damn " * 20_000, " ".join(known), "\ud800 shit"]
    words = [
        [model.vocabulary.get(word, len(known)) for word in re.findall(r"\b\w\w+\b", text.lower())] for text in texts
    ]
    segments = np.repeat(np.arange(len(texts)), [len(word) for word in words])
    ours = model.probabilities(np.array([word for group in words for word in group]), segments, len(texts))
    np.testing.assert_allclose(ours, predict_prob(texts), atol=1e-9)


def test_answers_belong_to_their_texts(profanity: ProfanityDetector) -> None:
    texts = ["fine", "you idiot", "", "1 2 3", "a moron. An idiot!", "good day"]
    assert profanity.detect(texts) == [profanity.detect([text])[0] for text in texts]
    assert profanity.detect([]) == []


def test_a_sentence_without_end_is_cut(profanity: ProfanityDetector) -> None:
    assert found(profanity, "report " * (5 * WINDOW_WORDS) + "idiot " + "report " * (5 * WINDOW_WORDS)) == ["idiot"]


def test_a_long_sentence_does_not_hide_an_insult(profanity: ProfanityDetector) -> None:
    """The classifier normalises by length, so a whole sentence would be too much of a good thing."""
    text = "The committee noted that the regional manager behaved like an {} during the long talks with our suppliers."
    for word in ("idiot", "moron", "bastard"):
        assert found(profanity, text.format(word)) == [word]


def test_plain_words_name_no_insult() -> None:
    assert not plain_words() & {"idiot", "moron", "stupid", "asshole", "bitch", "fuck", "faggot", "crap", "ass"}


def test_a_doubtful_word_is_told_with_its_doubt(profanity: ProfanityDetector) -> None:
    ((detection,),) = profanity.detect(["pissed"])
    assert (detection.start, detection.end) == (0, 6)
    assert 0.5 <= detection.score < 0.9


@given(text=st.text(st.sampled_from(".!…\n ab\t\x85"), max_size=12))
def test_sentences_end_where_the_plain_pattern_says(text: str) -> None:
    """Which is quadratic in a long run of stops, and so is not used."""
    plain = re.compile(r"[.!?…:;\n]+(?=\s|$)")
    assert list(_sentence_ends(text)) == [match.start() for match in plain.finditer(text)]


@pytest.mark.parametrize("stop", [". ", "!\n", " ... ", "?! ", ";\n"])
def test_what_is_said_in_one_sentence_is_not_diluted_by_the_next(profanity: ProfanityDetector, stop: str) -> None:
    said = ["You idiot", "the weather is nice today", "what a stupid bitch you are"]
    (detections,) = profanity.detect([stop.join(said)])
    at, alone = 0, []
    for (group,), text in zip((profanity.detect([text]) for text in said), said, strict=True):
        alone += [(d.start + at, d.end + at, pytest.approx(d.score)) for d in group]
        at += len(text) + len(stop)
    assert [(d.start, d.end, d.score) for d in detections] == alone
    assert len(alone) >= 2

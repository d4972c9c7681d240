from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from headrace_workers.features.judging.groundedness.doubts import _told_of_others, doubts
from headrace_workers.features.judging.groundedness.evidence import MOST_UNITS, embedded, units
from headrace_workers.features.judging.groundedness.ground import MOST_SENTENCES, ground
from headrace_workers.models.embedders.embedder import CountingEmbedder
from headrace_workers.models.embedders.load_embedder import load_embedder

GIVEN = (
    "The mill museum is open from Tuesday to Sunday between 10 and 17 o'clock. It was founded in 1926 by Clara Moss. "
    "Her nephew Giles Tennant has led it since 1990. Dogs are not admitted."
)


@pytest.fixture(scope="module")
def embedder(minilm_home: Path) -> CountingEmbedder:
    return load_embedder(minilm_home, "all-minilm-l6-v2")


@pytest.mark.parametrize(
    "sentence",
    [
        "The museum was founded by Clara Moss in 1926.",
        "Since 1990 Giles Tennant has been in charge of the museum.",
        "Visitors can come between 10 and 17 o'clock [1].",
        "You cannot bring your dog, since dogs are not admitted.",
    ],
)
def test_what_stands_there_is_supported_in_other_words_too(sentence: str, embedder: CountingEmbedder) -> None:
    assert ground(sentence, [GIVEN], embedder).share == 1.0


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("The museum was founded by Clara Moss in 1928.", "a number that is nowhere in it: 1928"),
        ("The museum was founded by Clara Moss in 1990.", "another number fits the evidence better"),
        ("The museum was founded by Giles Tennant in 1926.", "another name fits the evidence better"),
        ("The museum was founded by Rosa Leigh in 1926.", "a name that is nowhere in it: leigh, rosa"),
        ("Dogs are admitted.", "the opposite fits the evidence better"),
        ("The cafeteria serves apple pie in the afternoon.", "nothing in it says the same"),
    ],
)
def test_what_does_not_stand_there_is_named(sentence: str, reason: str, embedder: CountingEmbedder) -> None:
    good = "The museum was founded in 1926 by Clara Moss. "
    groundedness = ground(good + sentence, [GIVEN], embedder)
    (named,) = groundedness.unsupported
    counted = "nowhere" in reason or reason == "nothing in it says the same"
    assert (groundedness.sentences, named.reason, named.checked) == (2, reason, counted)
    assert groundedness.share == (0.5 if counted else 1.0)
    assert (good + sentence)[named.start : named.stop] == sentence
    assert 0.0 <= named.probability < 0.5


POOL = (
    "The pool is heated and closed on Mondays. Children under six are admitted free of charge. "
    "Diving is prohibited. The slide has been repaired."
)


@pytest.mark.parametrize(
    ("supported", "contradicted"),
    [
        ("On Mondays the pool is not open.", "On Mondays the pool is open."),
        ("Diving is not allowed.", "Diving is allowed."),
        ("Children under six do not have to pay.", "Children under six have to pay."),
        ("The slide works again.", "The slide is still out of order."),
        ("The pool is not unheated.", "The pool is unheated."),
    ],
)
def test_denials_in_other_words(supported: str, contradicted: str, embedder: CountingEmbedder) -> None:
    assert ground(supported, [POOL], embedder).share == 1.0
    (named,) = ground(contradicted, [POOL], embedder).unsupported
    assert named.reason == "the opposite fits the evidence better"


class Axes:
    id = "axes"

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        return np.ones((len(texts), 1), np.float32)


@pytest.mark.parametrize(
    ("denied", "affirmed", "more"),
    [
        ("The bell was not rung.", "The bell was rung.", 0.245),  # by what denies a sentence,
        ("The choir vanished.", "The choir sang.", 0.2),  # and by a word that nothing matches
        ("The bell was shut.", "The bell was open.", 0.4),  # or by one that denies another
    ],
)
def test_what_denies_counts_beside_the_vectors(denied: str, affirmed: str, more: float) -> None:
    given = embedded(units([affirmed], ()), Axes())
    same, other = doubts([affirmed, denied], given, Axes())
    assert other.nearer["denial"] - same.nearer["denial"] == pytest.approx(more)


WORK = (
    "Hanna Weiss led the work on backups, while Tomas Brandt rewrote the planner. "
    "Silk cloth is washed by hand and linen cloth at 60 degrees."
)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("The planner was written anew by Tomas Brandt.", "The planner was written anew by Hanna Weiss."),
        ("Silk has to be washed by hand.", "Linen has to be washed by hand."),
    ],
)
def test_what_is_told_of_another_is_named(right: str, wrong: str, embedder: CountingEmbedder) -> None:
    groundedness = ground(f"{right} {wrong}", [WORK], embedder)
    assert [unsupported.start for unsupported in groundedness.unsupported] == [len(right) + 1]


def test_names_are_hidden_to_see_whose_it_is(embedder: CountingEmbedder) -> None:
    claims = [
        "The planner was written anew by Hanna Weiss.",
        "The planner was written anew by Tomas Brandt.",
        "It ran.",
    ]
    wrong, right, none = _told_of_others(claims, embedded(units([WORK], ()), embedder), embedder)
    assert wrong > 0 >= right > none


HOURS = "The mill museum is open from Tuesday to Sunday between 10 and 17 o'clock."
FOUNDED = "The museum was founded in 1926 by Clara Moss. Her nephew Giles Tennant has led it since 1990."


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("Clara Moss founded the museum in 1926 [2].", None),
        ("Clara Moss founded the museum in 1926 [1, 2].", None),
        ("Clara Moss founded the museum in 1926.", None),
        ("Clara Moss founded the museum in 1926 [1].", "the passage that it cites does not support it: [1]"),
        ("Clara Moss founded the museum in 1926 [2][7].", "it cites a passage that does not exist: [7]"),
        ("Clara Moss founded the museum in 1927 [2].", "a number that is nowhere in it: 1927"),
    ],
)
def test_a_sentence_must_stand_in_what_it_cites(sentence: str, reason: str | None, embedder: CountingEmbedder) -> None:
    groundedness = ground(sentence, [HOURS, FOUNDED], embedder, numbered=True)
    assert [unsupported.reason for unsupported in groundedness.unsupported] == ([] if reason is None else [reason])
    if reason is not None and "cites" in reason:
        assert ground(sentence, [HOURS, FOUNDED], embedder).unsupported == ()


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("The fence is 2 metres high.", "a number that is nowhere in it: 2"),
        ("The fence is 1.8 metres high and lasts 40 days.", None),
        ("It stood for 960 hours.", None),
        ("It stood for 40 weeks.", "a unit that is nowhere in it: week"),
        ("It cost 235,000 euros.", None),
        ("It cost 235,500 euros.", "a number that is nowhere in it: 235500"),
        ("Another had cost 12,500 euros.", None),
        ("Spain had 2,000 posts.", None),
        ("It took two weeks.", None),
        ("The fence is 1.8 miles high.", "a unit that is nowhere in it: mile"),
        ("In May 2020 the Spanish got one fence.", None),
        ("The United Nations made it.", None),
        ("The Rotary Club made it.", "a name that is nowhere in it: club, rotary"),
    ],
)
def test_numbers_units_and_names_are_read_in_any_form(
    sentence: str, reason: str | None, embedder: CountingEmbedder
) -> None:
    given = "Spain put up a 1.8-metre fence on 3 May 2020, which stood for forty days. The UN made it."
    given += " It cost 235, 000 euros, another 12, 500 euros. It had 2, 000 posts, and took fourteen days."
    counted = [
        unsupported.reason for unsupported in ground(sentence, [given], embedder).unsupported if unsupported.checked
    ]
    assert counted == ([] if reason is None else [reason])


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ('The song is on the album "One in a Million".', None),
        ("The song is on the album Hygiène.", None),
        ("The CDC kept the album.", None),
        ("The National Guild of Song (NGS) kept the album.", "a name that is nowhere in it: guild"),
        ("The SDC kept the album.", "a name that is nowhere in it: sdc"),
        ("The song is on the album Two in a Billion.", "a number that is nowhere in it: 1000000000, 2"),
    ],
)
def test_a_name_is_there_however_it_is_written(sentence: str, reason: str | None, embedder: CountingEmbedder) -> None:
    given = "The song is on the album One in a Million, and on the album Hygiene. The national centers kept the album."
    given += " The Centers for Disease Control and Prevention kept it."
    counted = [
        unsupported.reason for unsupported in ground(sentence, [given], embedder).unsupported if unsupported.checked
    ]
    assert counted == ([] if reason is None else [reason])


def test_what_says_nothing_is_not_counted(embedder: CountingEmbedder) -> None:
    assert ground("And so it is. When would you like to come?", [GIVEN], embedder).sentences == 0
    assert ground("", [GIVEN], embedder).sentences == 0


def test_without_anything_given_nothing_is_supported(embedder: CountingEmbedder) -> None:
    groundedness = ground("It was founded in 1926.", ["", "  \n"], embedder)
    assert [unsupported.reason for unsupported in groundedness.unsupported] == ["nothing was given"]


def test_long_texts_are_bounded(embedder: CountingEmbedder) -> None:
    noise = "".join(f"The garden has {number} roses and tulips, which are red. " for number in range(3_000))
    found = units([noise, GIVEN], ["The museum was founded in 1926."])
    assert len(found.texts) == MOST_UNITS
    assert "It was founded in 1926 by Clara Moss." in found.texts
    assert ground("It was founded in 1926. " * (MOST_SENTENCES + 7), [GIVEN], embedder).beyond == 7

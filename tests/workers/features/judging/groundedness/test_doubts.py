import numpy as np
import pytest

from headrace_workers.features.judging.groundedness.doubts import NAME, NUMBER, apart, doubts
from headrace_workers.features.judging.groundedness.evidence import Evidence, embedded, units
from headrace_workers.features.judging.groundedness.sentences import read

TOLD = (
    "The Norte company built the line in 1863. The tunnel of Haro collapsed in 1891. "
    "Trains of the Sur company ran there later. They carried 26 tonnes of cork."
)


class Flat:
    def embed(self, texts):
        return np.ones((len(texts), 1), np.float32)


EVIDENCE: Evidence = embedded(units([TOLD], ()), Flat())


def names(claim):
    """How far its names stand from what is told with them."""
    said = read(claim)
    own = said.named(EVIDENCE.names)
    return apart(own, said, own, EVIDENCE)


def numbers(claim):
    said = read(claim)
    return apart(said.numbers, said, said.named(EVIDENCE.names), EVIDENCE)


def test_a_name_belongs_to_what_its_sentence_tells():
    assert names("In 1863 the line was built by Norte.") == -1.0
    assert names("In 1863 the line was built by Sur.") == 2.0
    assert names("The company of Sur did well.") == 0.0  # nothing that stands in one sentence alone
    assert names("The line was Madrid.") == 0.0


def test_a_sentence_without_a_name_goes_on_about_the_one_before():
    assert names("Sur transported 26 tonnes.") < 0 < names("Norte transported 26 tonnes.")


def test_a_number_belongs_to_its_name():
    assert numbers("Haro fell in 1891.") < 0 < numbers("Haro fell in 1863.")
    assert numbers("Haro fell in 1900.") == 0.0


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (NAME, "In 1863 the line was built by Norte.", "In 1863 the line was built by Sur."),
        (NUMBER, "Haro fell in 1891.", "Haro fell in 1863."),
    ],
)
def test_it_speaks_against_the_sentence(kind, right, wrong):
    """Where nothing else can tell, since all vectors are one."""
    good, bad = doubts([right, wrong], EVIDENCE, Flat())
    assert bad.nearer[kind] > good.nearer[kind]

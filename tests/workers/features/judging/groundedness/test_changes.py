from itertools import islice

from headrace_workers.features.judging.groundedness.sentences import opposite, other_kinds, other_names, other_numbers

EVIDENCE = [
    "The bridge was designed by Ines Corrada in Lisbon, 412 metres long.",
    "Peter Malling came to Trieste in 1931 with 15 men.",
]


def test_other_numbers_are_those_of_the_evidence_and_of_like_size() -> None:
    assert list(other_numbers("It has 340 rooms and 15 doors.", EVIDENCE)) == [
        "It has 412 rooms and 15 doors.",
        "It has 1931 rooms and 15 doors.",
        "It has 340 rooms and 412 doors.",
    ]


def test_other_names_are_used_alike() -> None:
    assert list(other_names("They met Peter Malling in Trieste.", EVIDENCE)) == [
        "They met Ines Corrada in Trieste.",
        "They met Peter Malling in Lisbon.",
    ]


def test_a_name_is_put_for_no_other_one_of_the_sentence() -> None:
    assert list(other_names("Malling and Ines Corrada met.", EVIDENCE)) == []
    assert list(other_names("In Trieste they met Ines Corrada.", EVIDENCE)) == [
        "In Lisbon they met Ines Corrada.",
        "In Trieste they met Peter Malling.",
    ]


def test_other_kinds_are_told_from_the_same_thing() -> None:
    told = ["Glass fibre is weaker than carbon fibre.", "The landlord pays for repairs.", "Basalt is a rock."]
    assert list(other_kinds("The price of glass fibre is low.", told)) == ["The price of carbon fibre is low."]
    assert list(other_kinds("The tenant pays.", told)) == ["The landlord pays."]
    assert list(other_kinds("Tenant and landlord, glass and carbon", told)) == []


def test_a_sentence_without_an_end_is_read_to_some_bound() -> None:
    long = " ".join(f"word{chr(97 + n % 26)}{chr(97 + n // 26 % 26)} Name{chr(97 + n % 26)} {n}" for n in range(20_000))
    assert next(iter(other_kinds(long, [long])), None) is None
    assert len(list(islice(other_names(long, [long]), 3))) <= 3


def test_the_opposite() -> None:
    """A denial is taken out, or put behind the first auxiliary; without one nothing can be said."""
    assert opposite("It was not opened.") == "It was opened."
    assert opposite("It was opened.") == "It was not opened."
    assert opposite("They left without a word.") == "They left with a word."
    assert opposite("They left.") is None

from collections import Counter

import pytest
from bench.analogies import pairs
from bench.vectors import KnownVectors
from bench.wrong_hits import LEAST, Look, cosine, guarded, is_wrong, looked_up, measure, turns, upper
from bench.wrong_hits_pairs import CAPITALS, PREAMBLE, Meaning, about_entities, swapped

from headrace_workers.models.embedders.hashed import HashEmbedder

EMBED = HashEmbedder().embed
ALIKE = [
    Meaning("number", "tea", 0, ("How long do 2 eggs boil?", "How long do 2 eggs boil, please?")),
    Meaning("number", "tea", 1, ("How long do 3 eggs boil?", "How long do 3 eggs boil, please?")),
]


def test_questions_are_all_different():
    meanings = [*swapped(), *about_entities("capital", ["Ghana", "Chad"], CAPITALS)]
    texts = Counter(text for meaning in meanings for text in meaning.wordings)
    assert [text for text, times in texts.items() if times > 1] == []
    assert {len(meaning.wordings) for meaning in meanings} == {5}
    assert len(PREAMBLE.split()) == 40
    assert not any("{" in text for text in texts)


def test_half_is_cached_in_one_wording_and_the_rest_is_asked():
    first, second = turns(ALIKE)
    assert first.cached == {"How long do 2 eggs boil?": 0}
    assert second.cached == {"How long do 3 eggs boil, please?": 1}
    assert first.asked == {
        "How long do 2 eggs boil, please?": 0,
        "How long do 3 eggs boil?": 1,
        "How long do 3 eggs boil, please?": 1,
    }


def test_what_should_hit_is_what_is_cached():
    vectors = KnownVectors({text: EMBED([text])[0] for meaning in ALIKE for text in meaning.wordings})
    plain = list(looked_up(ALIKE, vectors, cosine(0.5)))
    assert [(look.asked, look.should, look.served) for look in plain[:3]] == [
        (0, True, 0),
        (1, False, 0),
        (1, False, 0),
    ]
    assert [is_wrong(look) for look in plain[:3]] == [False, True, True]
    assert not any(map(is_wrong, looked_up(ALIKE, vectors, guarded(LEAST))))
    assert len(list(looked_up(ALIKE, vectors, cosine(0.5), most=1))) == 3


def test_an_upper_bound_knows_that_a_cluster_fails_together():
    meanings = [Meaning("kind", str(number), 0, ()) for number in range(10)]
    together = [Look(number, True, 99 if number == 0 else number) for number in range(10) for _ in range(10)]
    apart = [Look(number, True, 99 if turn == 0 else number) for number in range(10) for turn in range(10)]
    assert upper(apart, meanings, of_served=True) == pytest.approx(0.164, abs=0.001)  # Clopper and Pearson's
    assert upper(together, meanings, of_served=True) > 0.25
    nothing_wrong = [Look(0, True, 0)] * 299
    assert upper(nothing_wrong, meanings, of_served=True) == pytest.approx(0.01, abs=1e-4)


def test_each_method_is_measured_in_all_and_by_kind():
    said: list[str] = []
    rows = measure(ALIKE, EMBED, said.append)
    assert {row.target for row in rows if row.target} == {"≥ 0.8", "≤ 0.01"}
    assert all("and guards" in row.metric for row in rows if row.target)
    assert sum(row.metric.startswith("number, ") for row in rows) == 4


def test_pairs_are_read_from_their_section():
    capitals = ": capital-world\nAbuja Nigeria Accra Ghana\nAbuja Nigeria Algiers Algeria"
    text = f"{capitals}\n: currency\nAlgeria dinar Angola kwanza\n"
    assert pairs(text, "capital-world") == {"Abuja": "Nigeria", "Accra": "Ghana", "Algiers": "Algeria"}
    assert pairs(text, "currency") == {"Algeria": "dinar", "Angola": "kwanza"}

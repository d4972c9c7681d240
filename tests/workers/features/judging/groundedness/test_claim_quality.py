import pytest
from tests.workers.features.judging.judge_model import JudgeModel

from headrace_workers.features.cache.measuring import LabelledPair
from headrace_workers.features.judging.groundedness.claim_quality import measure_claims
from headrace_workers.models.embedders.hashed import HashEmbedder
from headrace_workers.models.verifiers.verifier import Relation
from headrace_workers.models.verifiers.verify_stage import ModelVerifier

CLAIMS = [
    LabelledPair(n, f"The mill {n} opens at {n}. Entry is free. The shop sells flour.", claim, supported)
    for n in range(20, 40)
    for claim, supported in ((f"The mill {n} opens at {n}.", True), (f"The mill {n} opens at {n + 50}.", False))
]


def test_the_rules_are_measured_as_a_verifier_is():
    quality = measure_claims(None, CLAIMS, HashEmbedder())
    assert (quality.verifier, quality.relation, quality.pairs) == ("the rules", Relation.SUPPORTED, 40)
    assert (quality.auroc, quality.is_chance) == (1.0, False)
    assert "of the supported sentences and to" in quality.sentence


def test_a_verifier_reads_what_workers_show_it():
    far = " ".join(
        f"Of the cloth of {name} nobody knows." for name in ("Ann", "Bea", "Cid", "Dot", "Eve", "Flo", "Gus")
    )
    judge = JudgeModel(lambda prompt, choices: (0.9, 0.0, 0.1, 0.0))
    quality = measure_claims(
        ModelVerifier(judge), [claim._replace(first=f"{far} {claim.first}") for claim in CLAIMS], HashEmbedder()
    )
    assert (quality.auroc, quality.is_chance, quality.wrongly) == (0.5, True, 1.0)
    prompts = [prompt[-1].content for asked, _ in judge.calls for prompt in asked]
    assert all("opens at" in prompt and prompt.count("nobody knows") <= 4 for prompt in prompts)


def test_sentences_of_one_label_measure_nothing():
    with pytest.raises(ValueError, match="supported sentences and on others"):
        measure_claims(None, CLAIMS[::2], HashEmbedder())

"""Cross-encoders and NLI models as verifiers: real ones, tiny and of random weights."""

import importlib.util
import json
from pathlib import Path

import pytest
from tests.services.need import need
from tests.workers.features.knowledge.rerankers.test_cross_encoder import write_cross_encoder

from headrace_schemas import HeadraceError
from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.knowledge.load_verifier import load_verifier
from headrace_workers.models.verifiers.verifier import Relation, TextPair, Verdict, Verifier

pytestmark = pytest.mark.slow  # to load torch takes longer than all that is done with it
PAIR = ("a mill by the river", "a river with a half \ud800 of a mill")


@pytest.fixture(scope="module", autouse=True)
def library() -> None:
    """Skips the tests, or fails in CI, where it is not installed."""
    need(importlib.util.find_spec("sentence_transformers"), "pip install 'headrace[sentence-transformers]'")


def write_nli(folder: Path, labels: list[str]) -> Path:
    write_cross_encoder(folder, figures=len(labels))
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {str(n): label for n, label in enumerate(labels)}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def nli(tmp_path_factory: pytest.TempPathFactory) -> Verifier:
    """One that says whether the first text entails the second."""
    folder = write_nli(tmp_path_factory.mktemp("nli") / "tiny-nli", ["contradiction", "Entailment", "neutral"])
    return load_verifier(f"sentence-transformers:{folder}")


def value(verifier: Verifier, relation: Relation, first: str, second: str) -> float:
    (verdict,) = verifier.verify([TextPair(relation, first, second)])
    assert isinstance(verdict, Verdict)
    return verdict.value


def test_a_model_of_one_figure_is_asked_once(tmp_path: Path) -> None:
    verifier = load_verifier(f"sentence-transformers:{write_cross_encoder(tmp_path / 'tiny-cross')}")
    assert (verifier.name, verifier.provider, verifier.verify([])) == ("tiny-cross", None, [])
    one = value(verifier, Relation.SAME_QUESTION, *PAIR)
    assert 0 < one < 1
    assert value(verifier, Relation.SUPPORTED, *PAIR) == pytest.approx(one, abs=1e-6)


def test_texts_that_ask_or_say_the_same_entail_each_other(nli: Verifier) -> None:
    there = value(nli, Relation.SUPPORTED, *PAIR)
    back = value(nli, Relation.SUPPORTED, *reversed(PAIR))
    assert there != pytest.approx(back, abs=1e-6)
    for relation in (Relation.SAME_QUESTION, Relation.SAME_ANSWER):
        assert value(nli, relation, *PAIR) == pytest.approx(min(there, back), abs=1e-6)


def test_pairs_of_several_relations_in_one_call_keep_their_order(nli: Verifier) -> None:
    pairs = [TextPair(relation, *PAIR) for relation in Relation]
    found = nli.verify([*pairs, *reversed(pairs)])
    alone = [value(nli, relation, *PAIR) for relation in Relation]
    assert [verdict.value for verdict in found if isinstance(verdict, Verdict)] == pytest.approx(
        [*alone, *reversed(alone)], abs=1e-6
    )


def test_one_that_is_too_slow_has_given_no_verdict(tmp_path: Path) -> None:
    folder = write_cross_encoder(tmp_path / "tiny-slow")
    verifier = load_verifier(f"sentence-transformers:{folder}", most_seconds=0.0)
    (verdict,) = verifier.verify([TextPair(Relation.SUPPORTED, *PAIR)])
    assert isinstance(verdict, HeadraceError)
    assert "it may take 0 s" in str(verdict)


def test_labels_without_entailment_are_refused(tmp_path: Path) -> None:
    folder = write_nli(tmp_path / "tiny-moods", ["glad", "sad"])
    with pytest.raises(ConfigurationError, match="has the labels glad, sad"):
        load_verifier(f"sentence-transformers:{folder}")

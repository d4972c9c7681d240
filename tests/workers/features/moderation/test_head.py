from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.workers.features.moderation.heads import examples

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.moderation.detector import Moderation
from headrace_workers.features.moderation.head import HeadDetector, load_categories
from headrace_workers.features.moderation.head_training import train
from headrace_workers.features.moderation.moderator import Aids, build_moderator
from headrace_workers.features.moderation.segments import segments
from headrace_workers.models.embedders.hashed import HashEmbedder
from headrace_workers.models.heads import Head, save_head

EMBEDDER = HashEmbedder()


@pytest.fixture(scope="module")
def head() -> Head:
    rows = [*examples("a", 80, 80), *examples("b", 80, 80)]
    return train(rows, EMBEDDER.embed([row.text for row in rows]), EMBEDDER.id).head


def test_a_sentence_among_many_is_found_where_it_stands(head: Head) -> None:
    calm = "River mill flour. Summer bread water! " * 30
    grim = "Smash burn crush destroy. "
    quiet, loud = HeadDetector(head, EMBEDDER).detect([calm, calm + grim + calm])
    (alone,) = quiet
    assert (alone.category, alone.score < 0.5) == ("violence", True)
    sure = [found for found in loud if found.score >= 0.5]
    assert (len(calm), len(calm) + len(grim)) in {(found.start, found.end) for found in sure}
    assert all(found.start < len(calm) + len(grim) and found.end > len(calm) for found in sure)


def test_a_policy_names_a_head_and_a_person_decides(head: Head, tmp_path: Path) -> None:
    save_head(tmp_path / "head.safetensors", head, {})
    (tmp_path / "policy.toml").write_text('head = "head.safetensors"\n')
    moderator = build_moderator(tmp_path / "policy.toml", Aids(lambda: EMBEDDER))
    grim, calm = moderator.moderate(["smash burn crush", "river mill flour"])
    assert isinstance(grim, Moderation)
    assert isinstance(calm, Moderation)
    assert (grim.action, grim.verdict.categories["violence"]) == ("review", True)
    assert (calm.action, calm.findings) == ("allow", ())
    assert 0 < calm.verdict.category_scores["violence"] < 0.5 < grim.verdict.category_scores["violence"]
    assert calm.verdict.detectors["head"].endswith(head.version)
    assert "violence" not in calm.verdict.not_covered
    assert "hate" in calm.verdict.not_covered
    with pytest.raises(ConfigurationError, match="there is no embedder here"):
        build_moderator(tmp_path / "policy.toml")
    other = HashEmbedder("other")
    with pytest.raises(ConfigurationError, match=f"trained over {EMBEDDER.id}, and the embedder here is {other.id}"):
        build_moderator(tmp_path / "policy.toml", Aids(lambda: other))


@pytest.mark.parametrize("names", [(), ("Hate!",), ("hate", "hate"), ("hate", "violence")])
def test_a_head_without_a_category_for_each_row_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    rows = max(1, len(set(names)) - (names[-1:] == ("violence",)))
    head = Head("e", np.zeros((rows, 64), np.float32), np.zeros(rows, np.float32), names)
    save_head(tmp_path / "head.safetensors", head, {})
    with pytest.raises(
        ConfigurationError, match=r"head\.safetensors cannot be used: its classes need 1 to 64 categories"
    ):
        load_categories(tmp_path / "head.safetensors")


@given(text=st.text(st.sampled_from('ab .!?\n\u3002"x'), max_size=3_000))
def test_parts_are_of_bounded_size_and_leave_nothing_out(text: str) -> None:
    parts = segments(text)
    assert all(0 < end - start <= 1_000 for start, end in parts)
    assert all(any(start <= at < end for start, end in parts) for at, char in enumerate(text) if not char.isspace())


@pytest.mark.parametrize("unit", [".", "a.", "\n", "a\n", "a", " ", '."', "a. "])
def test_the_parts_of_the_longest_text_are_no_more_than_it_bears(unit: str) -> None:
    """A sentence of one character each would be two hundred thousand."""
    text = (unit * 200_000)[:200_000]
    assert len(segments(text)) <= 256 + 200 + 251


def test_a_sentence_is_a_part() -> None:
    text = 'One is. Is two? "Three!" four'
    assert [text[slice(*part)] for part in segments(text)] == ["One is. ", text, "Is two? ", '"Three!" ', "four"]
    assert segments("") == segments(" \n") == []

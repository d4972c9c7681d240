import io
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.workers.features.moderation.heads import examples

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.moderation import head as head_module
from headrace_workers.features.moderation.detector import Moderation
from headrace_workers.features.moderation.head import Head, HeadDetector, load_head, save_head
from headrace_workers.features.moderation.head_training import train
from headrace_workers.features.moderation.moderator import Aids, build_moderator
from headrace_workers.features.moderation.segments import segments
from headrace_workers.models.embedders.hashed import HashEmbedder

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
    save_head(head, tmp_path / "head.npz")
    (tmp_path / "policy.toml").write_text('head = "head.npz"\n')
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


def test_a_head_is_read_as_it_was_written(head: Head, tmp_path: Path) -> None:
    save_head(head, tmp_path / "head.npz")
    read = load_head(tmp_path / "head.npz")
    assert (read.categories, read.embedder, read.version) == (head.categories, head.embedder, head.version)
    assert replace(head, bias=head.bias + 1).version != head.version
    assert replace(head, embedder="x").version != head.version


class Harm:
    """Runs what it likes when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return (pytest.fail, ("it was run",))


def written(**changes: Any) -> bytes:
    arrays = {
        "weights": np.zeros((1, 64), np.float32), "bias": np.zeros(1, np.float32), "categories": np.array(["hate"]),
        "embedder": np.array("e"),
    }  # fmt: skip
    file = io.BytesIO()
    np.savez(file, **{name: value for name, value in (arrays | changes).items() if value is not None})
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"no zip", "cannot be read"),
        (pickle.dumps(Harm()), "cannot be read"),
        (written(weights=np.array([Harm()], dtype=object)), "cannot be read: Object arrays"),
        (written(bias=None), "cannot be read"),
        (written(weights=np.zeros((2, 64), np.float32)), "its weights are not of 1 categories"),
        (written(bias=np.zeros(2, np.float32)), "its weights are not of 1 categories"),
        (written(weights=np.zeros((1, 64))), "must be finite 32-bit floats"),
        (written(weights=np.full((1, 64), np.nan, np.float32)), "must be finite 32-bit floats"),
        (written(categories=np.array(["Hate!"])), "'Hate!' is no category's name"),
        (written(categories=np.array(["a", "a"])), "must have 1 to 64 categories, each once"),
        (written(categories=np.array(0)), "must have 1 to 64 categories, each once"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_head_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "head.npz").write_bytes(content)
    with pytest.raises(ConfigurationError, match="moderation head .*head.npz.* " + why if "cannot" not in why else why):
        load_head(tmp_path / "head.npz")


def test_a_file_that_unpacks_to_too_much_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_module, "MAX_BYTES", 100_000)
    with zipfile.ZipFile(tmp_path / "head.npz", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("weights.npy", b"0" * 100_001)
    assert (tmp_path / "head.npz").stat().st_size < 1_000
    with pytest.raises(ConfigurationError, match="unpacks to 100001 bytes; at most 100000 are taken"):
        load_head(tmp_path / "head.npz")


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

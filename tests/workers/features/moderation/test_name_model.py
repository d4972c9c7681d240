import fcntl
from pathlib import Path

import pytest
from bench.kept import FOLDER
from bench.pii import name_model

from headrace_schemas import HeadraceError
from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.moderation.moderator import build_moderator
from headrace_workers.features.moderation.name_model import NameModel, NameModelDetector
from headrace_workers.features.moderation.policy_file import load_policy


@pytest.fixture(scope="module")
def folder() -> Path:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "name_model.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return name_model()


def _names(found: NameModelDetector, text: str) -> list[str]:
    return [text[detection.start : detection.end] for detection in found.detect([text])[0]]


@pytest.mark.integration
def test_names_count_where_the_text_speaks_of_somebody_it_knows(folder: Path) -> None:
    detector = NameModelDetector(NameModel(folder))
    assert _names(detector, "The customer, Agnieszka Wiśniewska, wants her money back.") == ["Agnieszka Wiśniewska"]
    assert _names(detector, "Please ask my daughter Siobhan about it.") == ["Siobhan"]
    assert _names(detector, "What is the name? Thandiwe Dlamini.") == ["Thandiwe Dlamini"]
    assert _names(detector, "Agnieszka Wiśniewska won the race in Oslo on Monday.") == []
    assert _names(detector, "The name of the rose is older than the customer thinks.") == []


@pytest.mark.integration
def test_all_names_count_where_the_policy_says_everywhere(folder: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(f'[detectors.names]\nmodel = "{folder.resolve()}"\neverywhere = true\n', encoding="utf-8")
    moderator = build_moderator(policy)
    text = "The mill is old, and its wheel turns. " * 40 + "Agnieszka Wiśniewska won the race."
    (verdict,) = moderator.moderate([text])
    assert not isinstance(verdict, HeadraceError)
    assert verdict.text is not None
    assert verdict.text.endswith("[NAME] won the race.")


@pytest.mark.integration
def test_a_part_with_more_tokens_than_the_model_reads_is_read_in_halves(folder: Path) -> None:
    detector = NameModelDetector(NameModel(folder))
    assert _names(detector, "한국어 " * 110 + "My name is Siobhan Murphy.") == ["Siobhan Murphy"]


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"needs config\.json, tokenizer\.json and onnx/model_q4\.onnx"):
        NameModelDetector(NameModel(tmp_path))


def test_a_model_without_a_label_for_names_is_refused(tmp_path: Path) -> None:
    """A classifier of other things would find nothing, and nobody would know."""
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx/model_q4.onnx").write_bytes(b"")
    (tmp_path / "config.json").write_text('{"id2label": {"0": "O", "1": "B-CITY"}}', encoding="utf-8")
    with pytest.raises(ConfigurationError, match="no label for names of people"):
        NameModelDetector(NameModel(tmp_path))


def test_a_policy_names_the_model(tmp_path: Path) -> None:
    """The folder is relative to the policy file; the installed wheel and known people are the defaults."""
    policy = tmp_path / "policy.toml"
    policy.write_text('[detectors.names]\nmodel = "rampart"\n', encoding="utf-8")
    assert load_policy(policy).names == NameModel(tmp_path / "rampart", everywhere=False)
    policy.write_text("[detectors.names]\neverywhere = true\n", encoding="utf-8")
    assert load_policy(policy).names == NameModel(None, everywhere=True)
    policy.write_text('[detectors.names]\neverywhere = "yes"\n', encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"line 2: detectors\.names\.everywhere: is 'yes'"):
        load_policy(policy)

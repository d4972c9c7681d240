from pathlib import Path

import pytest

from headrace_schemas.errors import ConfigurationError, UnknownModel
from headrace_workers.models.engines.engine import LoadOptions
from headrace_workers.models.engines.load_generator import load_generator
from headrace_workers.testing import EchoGenerator, make_echo_model, make_hash_embedder


def test_the_card_chooses_the_engine(tiny_home: Path, tmp_path: Path) -> None:
    make_echo_model(tmp_path, "parrot")
    parrot = load_generator(tmp_path, "parrot")
    assert isinstance(parrot, EchoGenerator)
    assert parrot.alias == "parrot"
    tiny = load_generator(tiny_home, "tiny", LoadOptions(device="cpu", inter_threads=1, compute_type="float32"))
    assert (tiny.alias, tiny.quantization, tiny.context_length) == ("tiny", "float32", 2048)


def test_an_unknown_alias_names_the_known(tiny_home: Path) -> None:
    with pytest.raises(UnknownModel, match="tiny"):
        load_generator(tiny_home, "huge")


def test_an_embedder_answers_no_job(tmp_path: Path) -> None:
    """It is named as what it is, with those that could have been meant."""
    make_echo_model(tmp_path)
    make_hash_embedder(tmp_path)
    with pytest.raises(ConfigurationError, match=r"hash is an embedder.*here are: echo$"):
        load_generator(tmp_path, "hash")

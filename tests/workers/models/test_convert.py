import importlib.util
import os
import re
from pathlib import Path

import numpy as np
import pytest

from headrace_schemas.errors import ConfigurationError
from headrace_workers.models.convert import convert

SMOLLM2 = "smollm2-135m-instruct"


def need_torch() -> None:
    """Skip, or fail in CI, where the extra `convert` is not installed."""
    if all(importlib.util.find_spec(name) for name in ("torch", "transformers", "accelerate")):
        return
    reason = "torch, transformers and accelerate are needed: pip install 'headrace[convert]'"
    if os.environ.get("CI"):
        pytest.fail(f"CI must have it: {reason}")
    pytest.skip(reason)


def logits_of(home: Path, alias: str, texts: list[str]) -> list[np.ndarray]:
    """Raw logits of every position of each text."""
    import ctranslate2
    from tokenizers import Tokenizer

    folder = home / "models" / alias
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    engine = ctranslate2.Generator(str(folder), compute_type="float32", intra_threads=1)
    tokens = [tokenizer.encode(text, add_special_tokens=False).tokens for text in texts]
    return [np.array(engine.forward_batch([row])) for row in tokens]


@pytest.mark.slow
def test_both_routes_give_the_same_network(smollm2_gguf: Path, smollm2_float_home: Path, tmp_path: Path) -> None:
    need_torch()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = {"pretrained_model_name_or_path": str(smollm2_gguf.parent), "gguf_file": smollm2_gguf.name}
    model = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    # The weights are float32 by now; the marker of the file's own quantization would forbid saving them.
    del model.config.quantization_config
    model.hf_quantizer = None
    model.save_pretrained(tmp_path / "hf")
    AutoTokenizer.from_pretrained(**place).save_pretrained(tmp_path / "hf")
    card = convert(str(tmp_path / "hf"), "through-transformers", tmp_path, "float32")
    assert card.context_length == 8192
    assert re.fullmatch("folder:hf#sha256=[0-9a-f]{64}", card.source)
    texts = ["<|im_start|>user\nWhat is the capital of France?<|im_end|>\n", "A mill stands by the river"]
    direct = logits_of(smollm2_float_home, SMOLLM2, texts)
    through = logits_of(tmp_path, "through-transformers", texts)
    for one, other in zip(direct, through, strict=True):
        np.testing.assert_allclose(one, other, atol=5e-4)


@pytest.mark.slow
def test_a_gguf_file_needs_no_torch(smollm2_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    card = convert(str(smollm2_gguf), "mine", tmp_path)
    assert (card.alias, card.quantization, card.licence, card.context_length) == ("mine", "int8", "apache-2.0", 8192)
    assert card.source.startswith("file:SmolLM2-135M-Instruct.Q4_1.gguf#sha256=b179c952")


@pytest.mark.parametrize("source", [".", "owner/name"])
def test_without_the_extra_the_message_says_how_to_get_it(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'headrace\[convert\]'"):
        convert(source, "mine", tmp_path)
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize("source", ["/nowhere/model", "./gone.gguf", "gone.gguf"])
def test_a_path_that_does_not_exist_is_not_taken_for_a_hub_id(source: str, tmp_path: Path) -> None:
    """A typing error in a path must not send a request to the hub."""
    with pytest.raises(ConfigurationError, match="does not exist"):
        convert(source, "mine", tmp_path)


def test_a_bad_alias_or_format_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot name a model"):
        convert(".", "../mine", tmp_path)
    with pytest.raises(ConfigurationError, match="is not one of"):
        convert(".", "mine", tmp_path, "int3")

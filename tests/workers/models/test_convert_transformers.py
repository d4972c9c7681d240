"""Folders of Transformers: CTranslate2 computes what they compute, or the conversion is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.workers.models.test_convert import need_torch

from headrace_schemas.errors import ConfigurationError
from headrace_workers.models.convert import convert

pytestmark = pytest.mark.integration  # seconds each: networks are built, written and computed

_IDS = [1, *(int(number) for number in np.random.default_rng(1).integers(3, 300, 119))]
_LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip


def write_folder(folder: Path, name: str, **options: Any) -> Any:
    """A random network of two layers and 300 tokens, of the architecture `name`, as Transformers writes it."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models

    torch.manual_seed(3)
    config = getattr(transformers, f"{name}Config")(
        **{
            "vocab_size": 300, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
            "initializer_range": 0.3, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
            **options,
        }
    )  # fmt: skip
    network = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    network.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({f"t{number}": number for number in range(300)}, unk_token="t0"))
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="t1", eos_token="t2", unk_token="t0", pad_token="t0"
    ).save_pretrained(folder)
    return network


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"), [("Llama", {"rope_parameters": _LLAMA3}), ("Qwen3", {"head_dim": 32})], ids=["llama3", "qwen3"]
)
def test_logits_are_those_of_transformers(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    need_torch()
    import ctranslate2
    import torch

    network = write_folder(tmp_path / "source", name, **options)
    card = convert(str(tmp_path / "source"), "mine", tmp_path, "float32")
    assert card.context_length == 512
    engine = ctranslate2.Generator(str(tmp_path / "models" / "mine"), compute_type="float32")
    ours = np.array(engine.forward_batch([[f"t{number}" for number in _IDS]]))[0]
    with torch.no_grad():
        theirs = network(torch.tensor([_IDS])).logits[0].numpy()
    np.testing.assert_allclose(ours, theirs, atol=2e-3)


@pytest.mark.slow
def test_a_network_that_would_be_computed_wrongly_is_refused(tmp_path: Path) -> None:
    """CTranslate2 leaves Gemma 2's caps of logits out: its probabilities would be others."""
    need_torch()
    write_folder(tmp_path / "source", "Gemma2", head_dim=16, query_pre_attn_scalar=16)
    with pytest.raises(ConfigurationError, match=r"gemma2\) that CTranslate2 computes otherwise than Transformers"):
        convert(str(tmp_path / "source"), "mine", tmp_path)
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.slow
def test_the_context_ends_where_a_window_would_be_computed_wrongly(tmp_path: Path) -> None:
    """CTranslate2 computes a prompt of Mistral only up to the window over which its attention slides."""
    need_torch()
    write_folder(tmp_path / "source", "Mistral", sliding_window=256)
    assert convert(str(tmp_path / "source"), "mine", tmp_path).context_length == 256


@pytest.mark.slow
def test_a_configuration_that_the_library_trips_over_is_refused_with_its_name(tmp_path: Path) -> None:
    need_torch()
    write_folder(tmp_path / "source", "Phi", num_key_value_heads=4)
    with pytest.raises(ConfigurationError, match=r"source cannot be converted: AttributeError: .*PhiConfig"):
        convert(str(tmp_path / "source"), "mine", tmp_path)

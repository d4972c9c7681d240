"""GGUF files in every format and of every architecture: the network computes what Transformers computes from them."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.workers.models.random_gguf import write_random_gguf
from tests.workers.models.test_convert import logits_of, need_torch

from headrace_schemas.errors import ConfigurationError
from headrace_workers.models.convert import convert, is_made_of
from headrace_workers.models.registry import load_card

pytestmark = pytest.mark.integration  # Transformers takes seconds to load

FORMATS = ("F32", "F16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
TEXTS = ("the line is in the tin", "in", "{ it: 12 }\n\tif in t")

# Where tokens are split and normalized differently, tokenizers differ.
HARD_TEXTS = (
    "def f(x):\n    return x**2  # Quadrat\n\n\n\tif f(3) != 9:\r\n\t\traise ValueError(f'{x!r}')\n",
    "SELECT * FROM t WHERE a<>'b' AND c>=1_000.50;--x",
    "北京市的天气很好。今天是2024年11月29日、気温は二十度です。한국어도 있어요",
    "🎉👩‍👩‍👧‍👦🇩🇪 ok👍🏽",
    "1 12 123 1234 12345678901234567890 3.14159 1e-9 0x1F ½ Ⅷ ٣٤٥",
    "  leading,   three   spaces, trailing  \n\n \t mixed \u00a0nbsp\u3000wide\u200bzero ",
    "It's we'll THEY'RE I'D don'T l'été",
    "Cafe\u0301 e\u0301\u0323 A\u030a \u1e9b\u0323 \ufb01 \u2126",  # not normalized
    "<|im_start|>user\nHi<|im_end|>\n<|endoftext|><tool_call>{}</tool_call><|fim_prefix|>",
    "\u0000\u0001\u007f \u202ertl مرحبا بالعالم שלום",
    "",
    " ",
    "\n",
)


def transformers_logits(path: Path, rows: list[list[int]], **config: Any) -> list[np.ndarray]:
    """Logits of every position, by Transformers' own reading of the file, in float32; `config` is what it misses."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        str(path.parent), gguf_file=path.name, dtype=torch.float32, **config
    ).eval()
    with torch.no_grad():
        return [model(torch.tensor([row])).logits[0].numpy() for row in rows]


def ids_of(home: Path, alias: str, text: str) -> list[int]:
    from tokenizers import Tokenizer

    folder = home / "models" / alias
    ids: list[int] = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    return ids


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_each_format_gives_the_logits_of_transformers(architecture: str, kind: str, tmp_path: Path) -> None:
    need_torch()
    check_logits(write_random_gguf(tmp_path / "m.gguf", architecture, kind), tmp_path)


def check_logits(path: Path, home: Path, **config: Any) -> None:
    card = convert(str(path), "direct", home, "float32")
    assert card.context_length == 128
    ours = logits_of(home, "direct", list(TEXTS))
    theirs = transformers_logits(path, [ids_of(home, "direct", text) for text in TEXTS], **config)
    for one, other in zip(ours, theirs, strict=True):
        assert np.abs(other).max() > 1.0  # a network that says something
        np.testing.assert_allclose(one[0], other, atol=2e-3 * np.abs(other).max())


@pytest.mark.slow
def test_qwen3_gives_the_logits_of_transformers(tmp_path: Path) -> None:
    need_torch()
    check_logits(write_random_gguf(tmp_path / "m.gguf", "qwen3", "Q8_0"), tmp_path, head_dim=64)


def llama3_factors(base: float, pairs: int, factor: float) -> list[float]:
    """The factors that llama.cpp writes for Llama 3.1: by Meta's rule, for a first context of 8,192 tokens."""
    factors = []
    for index in range(pairs):
        wave = 2 * math.pi * base ** (index / pairs)
        if wave < 8192 / 4:
            factors.append(1.0)
        elif wave > 8192:
            factors.append(factor)
        else:
            smooth = (8192 / wave - 1) / (4 - 1)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return factors


@pytest.mark.slow
def test_scaled_rotations_of_llama_3_1_are_read(tmp_path: Path) -> None:
    need_torch()
    path = write_random_gguf(tmp_path / "m.gguf", "llama", "Q8_0", rotary_factors=llama3_factors(20_000.0, 32, 32.0))
    told = {"rope_type": "llama3", "rope_theta": 20_000.0, "factor": 32.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}  # fmt: skip
    check_logits(path, tmp_path, rope_parameters=told)


def test_rotations_that_are_scaled_by_another_rule_are_refused(tmp_path: Path) -> None:
    """A model that would be computed wrongly is none."""
    factors = [1.0 + index / 8 for index in range(32)]
    path = write_random_gguf(tmp_path / "m.gguf", "llama", "Q8_0", rotary_factors=factors)
    with pytest.raises(ConfigurationError, match=r"m\.gguf scales its rotations otherwise than Llama 3\.1"):
        convert(str(path), "direct", tmp_path)


def test_a_file_in_parts_is_one_model(tmp_path: Path) -> None:
    whole = write_random_gguf(tmp_path / "m.gguf", "llama", "Q8_0")
    write_random_gguf(tmp_path / "parts.gguf", "llama", "Q8_0", tensors_a_part=8)
    first, second, *_, last = sorted(tmp_path.glob("parts-*.gguf"))
    convert(str(whole), "whole", tmp_path, "float32")
    card = convert(str(first), "parts", tmp_path, "float32")
    for one, other in zip(logits_of(tmp_path, "parts", ["in"]), logits_of(tmp_path, "whole", ["in"]), strict=True):
        np.testing.assert_array_equal(one, other)
    assert is_made_of(tmp_path, "parts", first)
    with pytest.raises(ConfigurationError, match=f"give the first one, {first.name}"):
        convert(str(second), "parts", tmp_path)
    last.write_bytes(last.read_bytes()[:-1] + b"x")
    with pytest.raises(ConfigurationError, match="another model here"):
        is_made_of(tmp_path, "parts", first)
    last.unlink()
    with pytest.raises(ConfigurationError, match=f"{last.name} is not beside it"):
        convert(str(first), "parts", tmp_path)
    assert load_card(tmp_path, "parts") == card


@pytest.mark.slow
def test_a_real_qwen_gives_the_logits_of_transformers(qwen_gguf: Path, tmp_path: Path) -> None:
    need_torch()
    convert(str(qwen_gguf), "qwen", tmp_path, "float32")
    texts = ["<|im_start|>user\nWrite a haiku about rivers.<|im_end|>\n<|im_start|>assistant\n", HARD_TEXTS[0]]
    ours = logits_of(tmp_path, "qwen", texts)
    theirs = transformers_logits(qwen_gguf, [ids_of(tmp_path, "qwen", text) for text in texts])
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one[0], other, atol=5e-3)


@pytest.mark.slow
def test_a_real_qwen_tokenizer_is_that_of_transformers(qwen_gguf: Path, tmp_path: Path) -> None:
    need_torch()
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, Qwen2Tokenizer

    from headrace_workers.models.convert_gguf import convert_gguf

    convert_gguf(qwen_gguf, tmp_path, "int8")
    ours = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    theirs = AutoTokenizer.from_pretrained(str(qwen_gguf.parent), gguf_file=qwen_gguf.name)
    # Transformers drops it while it reads a GGUF file, and has it for the makers' own files.
    theirs.backend_tokenizer.normalizer = Qwen2Tokenizer().backend_tokenizer.normalizer
    for text in HARD_TEXTS:
        ids = ours.encode(text, add_special_tokens=False).ids
        assert ids == theirs.encode(text, add_special_tokens=False), text
        assert ours.decode(ids, skip_special_tokens=False) == theirs.decode(ids, skip_special_tokens=False)

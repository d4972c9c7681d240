"""A real network that is small enough for unit tests: two Llama layers with seeded random weights.

It speaks nonsense, but everything around it is true: CTranslate2, a byte-level tokenizer, a ChatML template.
"""

from pathlib import Path
from typing import Any, Final

from headrace_workers.models.convert_gguf import write_tokenizer_config
from headrace_workers.models.llama_spec import LlamaShape, Vocabulary, save_llama
from headrace_workers.models.registry import (
    ModelCard,
    folder_size,
    sha256_of,
    staged_model,
    write_card,
)

CONTEXT_LENGTH: Final = 2_048
_HIDDEN, _FFN = 64, 128
_SHAPE: Final = LlamaShape(layers=2, heads=4, kv_heads=2, head_dim=16, rope_base=10_000.0, rms_epsilon=1e-5)
_SPECIALS: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_CHATML: Final = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make_tiny_model(home: Path, alias: str = "tiny") -> Path:
    """Write the model into `<home>/models/<alias>` in float32, well under a second; gives the folder back."""
    with staged_model(home, alias) as draft:
        tokens = _save_tokenizer(draft)
        vocabulary = Vocabulary(tokens=tokens, bos="<|im_start|>", eos="<|im_end|>", unk="<|endoftext|>")
        save_llama(draft, _SHAPE, _random_tensors(len(tokens)), vocabulary, "float32")
        card = ModelCard(
            alias=alias,
            engine="ctranslate2",
            source="headrace_workers.testing.tiny",
            licence="Apache-2.0",
            sha256=sha256_of(draft / "model.bin"),
            quantization="float32",
            size_bytes=folder_size(draft),
            context_length=CONTEXT_LENGTH,
        )
        write_card(draft, card)
    return home / "models" / alias


def _save_tokenizer(folder: Path) -> list[str]:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokens = [*_SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(_SPECIALS))
    tokenizer.save(str(folder / "tokenizer.json"))
    write_tokenizer_config(folder, bos="<|im_start|>", eos="<|im_end|>", unk="<|endoftext|>", chat_template=_CHATML)
    return tokens


def _random_tensors(vocabulary_size: int) -> Any:
    import numpy as np

    random = np.random.default_rng(20)
    kv = _SHAPE.kv_heads * _SHAPE.head_dim
    shapes = {
        "token_embd": (vocabulary_size, _HIDDEN), "attn_q": (_HIDDEN, _HIDDEN), "attn_k": (kv, _HIDDEN),
        "attn_v": (kv, _HIDDEN), "attn_output": (_HIDDEN, _HIDDEN), "ffn_gate": (_FFN, _HIDDEN),
        "ffn_up": (_FFN, _HIDDEN), "ffn_down": (_HIDDEN, _FFN),
    }  # fmt: skip

    def tensor(name: str) -> Any:
        part = name.split(".")[-2]
        if part.endswith("norm"):
            return np.ones(_HIDDEN, dtype=np.float32)
        # Wide enough that answers depend on prompts, and that one token rarely wins for ever.
        return random.normal(0.0, 0.25, shapes[part]).astype(np.float32)

    return tensor

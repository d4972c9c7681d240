"""A base of a few thousand weights, as Transformers writes it and in the catalogue of a home, and data for it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.workers.models.test_convert import need_torch

from headrace_workers.models.convert import convert
from headrace_workers.testing.tiny import _save_tokenizer

COLOURS = ("red", "blue")
_QUICK = "[training]\nepochs = 2\nlearning_rate = 0.01"
FRUITS = ("apple", "plum", "pear", "fig", "lime", "kiwi", "date", "melon")


def make_base(home: Path) -> Path:
    """The base `tiny` in the home, made of the Transformers folder that is returned."""
    need_torch()
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = home / "source"
    folder.mkdir(parents=True)
    tokens = _save_tokenizer(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": "PreTrainedTokenizerFast"}))
    torch.manual_seed(5)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokens), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=2, max_position_embeddings=512, bos_token_id=1, eos_token_id=2, pad_token_id=0,
        )
    ).save_pretrained(folder)  # fmt: skip
    convert(str(folder), "tiny", home, "int8")
    return folder


def chat(question: str, answer: str) -> dict[str, Any]:
    """A line of data."""
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def examples(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Questions whose last word decides the answer."""
    numbers = range(first, first + count)
    return [chat(f"{number} {FRUITS[number % 8]}", COLOURS[number % 2]) for number in numbers]


def write_lines(path: Path, records: Iterable[Any]) -> Path:
    """Write records as JSON lines."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def write_recipe(folder: Path, source: str, more: str = _QUICK, **values: Any) -> Path:
    """Write a recipe whose runs take seconds; `more` are its tables."""
    plain = {"base": "tiny", "source": source, "data": "data.jsonl", "difference": 1.0, **values}
    lines = [f"{name} = {json.dumps(value)}" for name, value in plain.items()]
    path = folder / "recipe.toml"
    path.write_text("\n".join(lines) + f"\n{more}\n")
    return path

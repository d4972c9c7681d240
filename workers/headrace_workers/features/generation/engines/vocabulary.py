"""What a model's files say of its tokens: whether weights and tokenizer agree, and which tokens end an answer."""

import json
from pathlib import Path

from tokenizers import Tokenizer

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.generation.engines.chat_template import read_tokenizer_config, token_text
from headrace_workers.features.generation.models.broken_model import broken_model


def check_vocabulary(folder: Path, tokenizer: Tokenizer) -> None:
    """Raise ConfigurationError unless the weights' tokens are the tokenizer's.

    One of them may have more, as padding.
    """
    beside = folder / "vocabulary.json"
    if not beside.is_file():
        return
    for index, token in enumerate(json.loads(beside.read_text(encoding="utf-8"))):
        other = tokenizer.id_to_token(index)
        if other is not None and other != token:
            raise broken_model(
                f"{folder / 'tokenizer.json'} is not this model's: its token {index} is {other!r}, in {beside.name} "
                f"{token!r}"
            )


def end_ids(folder: Path, tokenizer: Tokenizer) -> list[int]:
    """Return every token that ends an answer: the tokenizer's, and those of `generation_config.json` (Llama 3 has
    three).
    """
    ids = {tokenizer.token_to_id(token_text(read_tokenizer_config(folder).get("eos_token")))}
    beside = folder / "generation_config.json"
    if beside.is_file():
        listed = json.loads(beside.read_text(encoding="utf-8")).get("eos_token_id")
        ids |= set(listed) if isinstance(listed, list) else {listed}
    ends = sorted(index for index in ids if index is not None)
    if not ends:
        raise ConfigurationError(f"{folder} names no end token in tokenizer_config.json: answers would never end")
    return ends

"""Marks by which chat templates part turns and roles. In a document's text they are text, and must stay so. Pure.

A tokenizer takes such a mark for the token itself wherever it stands: a passage that holds `<|im_end|>` could end the
user's turn and begin one of its own.
"""

import re
from collections.abc import Sequence
from typing import Final

_MARKS: Final = (
    r"<[|｜][^<>|｜\n]{1,64}[|｜]>"  # ChatML, Llama 3, Phi, Qwen, DeepSeek
    r"|</?s>|<(?:bos|eos|unk|pad)>"  # SentencePiece
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]|<</?SYS>>"  # Llama 2, Mistral
    r"|</?(?:start|end)_of_turn>"  # Gemma
)
CHAT_TOKEN: Final = re.compile(_MARKS)


def as_text(text: str, special: Sequence[str] = ()) -> str:
    """The text with a space within each mark, so that it reads the same and is none.

    `special`: further ones, such as the special tokens of the model's tokenizer.
    """
    further = [re.escape(token) for token in sorted(special, key=len, reverse=True) if len(token) > 1]
    pattern = re.compile("|".join([_MARKS, *further])) if further else CHAT_TOKEN
    # Parting one mark may complete no other: a space is in none of them but those that are handed in.
    return pattern.sub(lambda mark: f"{mark[0][0]} {mark[0][1:]}", text)

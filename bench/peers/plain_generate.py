"""A plain script: all prompts through CTranslate2's `generate_batch`, sorted by length, at the best batch size.

With a system prompt, what all begin with is its `static_prompt`, which it computes once and keeps.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import ctranslate2
from tokenizers import Tokenizer

from headrace_schemas import Message
from headrace_workers.models.engines.prefixes import common
from headrace_workers.models.engines.prompts import load_chat_template

_SIZES = (8, 16, 32, 64)


class _Plain:
    """The loaded model. Templates and tokens are as the pipeline makes them."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._template = load_chat_template(folder)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._engine: Any = ctranslate2.Generator(
            str(folder), device="cpu", compute_type="int8", inter_threads=threads, intra_threads=1
        )

    def answer(
        self, prompts: list[str], max_tokens: int, batch_size: int, system: str | None = None
    ) -> tuple[int, float]:
        """Completion tokens, and seconds from texts to texts."""
        begun = time.perf_counter()
        first = [] if system is None else [Message(role="system", content=system)]
        rendered = [self._template.render([*first, Message(role="user", content=prompt)]) for prompt in prompts]
        rows = [self._tokenizer.encode(text, add_special_tokens=False).tokens for text in rendered]
        rows.sort(key=len, reverse=True)
        shared = [] if system is None else common(min(rows), max(rows))
        results = self._engine.generate_batch(
            [row[len(shared) :] for row in rows],
            static_prompt=shared or None,
            max_batch_size=batch_size,
            max_length=max_tokens,
            include_prompt_in_result=False,
            sampling_topk=1,
        )
        answers = [result.sequences_ids[0] for result in results]
        for ids in answers:
            self._tokenizer.decode(ids)
        return sum(map(len, answers)), time.perf_counter() - begun


def main(arguments: list[str]) -> None:
    """`FILE`: JSON with model, threads, prompts, max_tokens, sample, and batch_size, or null to find the best of sizes;
    and, where all have one, the system prompt.
    """
    asked = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    plain = _Plain(Path(asked["model"]), asked["threads"])
    prompts, max_tokens, size = asked["prompts"], asked["max_tokens"], asked["batch_size"]
    # Spread over all, so that the sample's lengths are those of the whole.
    sample = prompts[:: max(1, len(prompts) // asked["sample"])][: asked["sample"]]
    system = asked.get("system")
    plain.answer(sample[:16], 8, 8, system)  # warm
    sweep = {}
    if size is None:
        for item in asked.get("sizes", _SIZES):
            tokens, seconds = plain.answer(sample, max_tokens, item, system)
            sweep[item] = tokens / seconds
        size = max(sweep, key=lambda each: sweep[each])
    tokens, seconds = plain.answer(prompts, max_tokens, size, system)
    json.dump({"tokens": tokens, "seconds": seconds, "batch_size": size, "sweep": sweep}, sys.stdout)

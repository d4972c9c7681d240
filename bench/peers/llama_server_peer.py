"""llama.cpp's server in this process (the wheel `xllamacpp`): prompts over HTTP, as many at once as it has slots."""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

_SLOT_TOKENS = 2_048  # prompt and answer of one request
_SECONDS = 600.0


class _Server:
    """A server with some slots. It has the whole context of each in memory, and batches what runs at one time."""

    def __init__(self, model: str, threads: int, slots: int) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = model
        params.n_parallel, params.n_ctx = slots, slots * _SLOT_TOKENS
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.n_gpu_layers = 0
        params.verbosity = 0
        self._slots = slots
        self._server = xllamacpp.Server(params)
        self._url = f"{self._server.listening_address}/v1/chat/completions"

    def answer(self, prompts: list[str], max_tokens: int, schemas: list[Any]) -> tuple[int, float, int]:
        """Completion tokens, seconds from texts to texts, and how many requests are refused. A prompt may have a
        schema.
        """
        begun = time.perf_counter()
        with ThreadPoolExecutor(self._slots) as clients:
            asked = clients.map(lambda one: self._ask(one[0], max_tokens, one[1]), zip(prompts, schemas, strict=True))
            tokens = list(asked)
        return sum(token or 0 for token in tokens), time.perf_counter() - begun, tokens.count(None)

    def _ask(self, prompt: str, max_tokens: int, schema: Any) -> int | None:
        body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens, "temperature": 0}
        if schema is not None:
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "it", "schema": schema}}
        request = Request(self._url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        try:
            with urlopen(request, timeout=_SECONDS) as response:
                answer: dict[str, Any] = json.load(response)
        except HTTPError:
            if schema is None:
                raise
            return None
        return int(answer["usage"]["completion_tokens"])


def main(arguments: list[str]) -> None:
    """`FILE`: JSON with model (a .gguf file), threads, slots, prompts and max_tokens, and a schema for each prompt."""
    asked = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    server = _Server(asked["model"], asked["threads"], asked["slots"])
    schemas = asked.get("schemas") or [None] * len(asked["prompts"])
    server.answer(asked["prompts"][: asked["slots"]], 8, [None] * len(asked["prompts"][: asked["slots"]]))  # warm
    tokens, seconds, refused = server.answer(asked["prompts"], asked["max_tokens"], schemas)
    json.dump({"tokens": tokens, "seconds": seconds, "refused": refused}, sys.stdout)
    sys.stdout.flush()

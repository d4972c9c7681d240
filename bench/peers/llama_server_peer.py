"""llama.cpp's server in this process (the wheel `xllamacpp`): prompts over HTTP, as many at once as it has slots."""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
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

    def answer(self, prompts: list[str], max_tokens: int) -> tuple[int, float]:
        """Completion tokens, and seconds from texts to texts."""
        begun = time.perf_counter()
        with ThreadPoolExecutor(self._slots) as clients:
            tokens = list(clients.map(lambda prompt: self._ask(prompt, max_tokens), prompts))
        return sum(tokens), time.perf_counter() - begun

    def _ask(self, prompt: str, max_tokens: int) -> int:
        body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens, "temperature": 0}
        request = Request(self._url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urlopen(request, timeout=_SECONDS) as response:
            answer: dict[str, Any] = json.load(response)
        return int(answer["usage"]["completion_tokens"])


def main(arguments: list[str]) -> None:
    """`FILE`: JSON with model (a .gguf file), threads, slots, prompts and max_tokens."""
    asked = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    server = _Server(asked["model"], asked["threads"], asked["slots"])
    server.answer(asked["prompts"][: asked["slots"]], 8)  # warm
    tokens, seconds = server.answer(asked["prompts"], asked["max_tokens"])
    json.dump({"tokens": tokens, "seconds": seconds}, sys.stdout)
    sys.stdout.flush()

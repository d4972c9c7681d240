"""Answers that somebody waits for, beside a batch that would fill the machine."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from bench.asking import chat, connection
from bench.batch import run_batch, tokens_of_last
from bench.deployment import Deployment
from bench.ends import Say
from bench.flow import SMOLLM2
from bench.report import Row, percentile, row
from headrace_workers.core.machine import available_cores

_CHAT = {
    "model": SMOLLM2,
    "messages": [{"role": "user", "content": "Is the ferry late today? Answer in a few words."}],
    "max_completion_tokens": 16,
}
_PAUSE = 2.0  # seconds from an answer to the next question: a person, not a second batch
_WARM_UP_LINES = 32


def beside_bulk(live: Deployment, home: Path, port: int, key: str, sizes: tuple[int, int], say: Say) -> list[Row]:
    """Chat completions alone; the batch alone; both."""
    count, lines = sizes
    with connection(port) as http, ThreadPoolExecutor(1) as beside:

        def one() -> float:
            begun = time.perf_counter()
            chat(http, key, _CHAT)
            return 1000 * (time.perf_counter() - begun)

        def rate() -> float:
            seconds = run_batch(live, home, lines, SMOLLM2, say)
            return tokens_of_last(live) / seconds

        run_batch(live, home, _WARM_UP_LINES, SMOLLM2, say)
        one()
        say(f"{count} SmolLM2 answers of 16 tokens by chat.completions, alone")
        alone = [one() for _ in range(count)]
        say(f"a batch of {lines} SmolLM2 lines, alone")
        batch_alone = rate()
        http.close()  # the gateway has hung up meanwhile, since nobody asked: the next request connects anew
        one()
        say("the same batch, and chat.completions beside it")
        running: Future[float] = beside.submit(rate)
        both = []
        begun = time.perf_counter()
        time.sleep(_PAUSE)
        while not running.done():
            both.append(one())
            time.sleep(_PAUSE)
        seconds = time.perf_counter() - begun
        batch_both = running.result()
    alone_99, both_99 = percentile(alone, 99), percentile(both, 99)
    return [
        row(f"SmolLM2 by chat.completions, 16 tokens, alone, p50 of {len(alone)}", percentile(alone, 50), "ms"),
        row(f"SmolLM2 by chat.completions, 16 tokens, alone, p99 of {len(alone)}", alone_99, "ms"),
        row(f"the same beside a batch of {lines} lines, p50 of {len(both)}", percentile(both, 50), "ms"),
        row(f"the same beside a batch of {lines} lines, p99 of {len(both)}", both_99, "ms"),
        row("beside the batch to alone, p99", both_99 / alone_99, "ratio", at_most=1.5),
        row("the batch alone", batch_alone, "tokens/s"),
        row("the batch beside one answer after the other", batch_both, "tokens/s"),
        # An answer has one core while it is made: what it takes of all, the batch cannot have.
        row(
            "of all cores, what answers of that length take",
            sum(alone) / len(alone) * len(both) / 1000 / seconds / available_cores(),
            "ratio",
        ),
        row("the batch beside answers to alone", batch_both / batch_alone, "ratio", at_least=0.9),
    ]

"""Models on other machines: jobs a second of one worker, beside a bare asyncio client that holds as many calls open.
And jobs a second of two models, alone and while a slow third holds all the calls that it may.

`python -m bench.remote PORT` is the endpoints: they speak OpenAI's stream, and answer each call in half a second. Only
those whose path begins with `/slow` answer in half a minute.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

from bench.deployment import TWO_WORKERS, deployment
from bench.ends import Ends, Say, Stalled
from bench.flow import ECHO_TOKENS, requests, run
from bench.report import Report, report, row
from bench.services import services
from headrace_producers import Producer
from headrace_workers.runtime.embedded.free_ports import free_ports

NAME = "remote"
OPEN_CALLS = 64
_FAST: Final = ("fast", "quick")  # models, each of a provider of its own
_SLOW: Final = "slow"
_ANSWERS_IN: Final = 0.5  # seconds
_SLOW_ANSWERS_IN: Final = 30.0
_ROUNDS: Final = 2  # what is compared with goes before, between and after
_REMOTE_WORKERS: Final = TWO_WORKERS | {"generate": ["--role", "generate", "--remote"]}


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """4,000 jobs (400 when quick) through one worker with 64 open calls, twice, beside the calls of a bare client; and
    4,000 of two models, twice alone and twice while 64 calls of a third are open that hardly end.
    """
    count = 400 if quick else 4_000
    prompts = [str(request["prompt"]) for request in requests(count)]
    with services(embedded=embedded) as there, _endpoint() as url:
        home = there.folder / "home"
        home.mkdir()
        (home / "models.toml").write_text("".join(_entry(alias, url) for alias in (*_FAST, _SLOW)))
        with (
            deployment(there, home, [], _REMOTE_WORKERS) as live,
            live.producer() as producer,
            Ends(live.kafka) as ends,
            Ends(live.kafka) as slow_ends,
        ):
            one = _jobs(prompts, _FAST[:1])
            run(producer, ends, one[:OPEN_CALLS], say)
            bare, piped = [_bare(url, prompts, say)], []
            for turn in range(_ROUNDS):
                say(f"headrace: {count:,} jobs, turn {turn + 1} of {_ROUNDS}")
                piped.append(run(producer, ends, one, say).rate)
                bare.append(_bare(url, prompts, say))
            alone, beside = _beside_a_slow_one(url, _jobs(prompts, _FAST), producer, ends, slow_ends, say)
        client, worker = sum(bare) / len(bare), sum(piped) / len(piped)
        what = f"{OPEN_CALLS} open calls, answers in {_ANSWERS_IN:g} s"
        slowly = f"beside a third with {OPEN_CALLS} open calls that it answers in {_SLOW_ANSWERS_IN:g} s"
        return report(
            NAME,
            there.stack,
            [
                row(f"bare asyncio client, {what}", client, "calls/s"),
                row(f"headrace, one worker, {what}", worker, "jobs/s"),
                row("headrace to the bare client", worker / client, "ratio", at_least=0.85),
                row("two providers on this worker", alone, "jobs/s"),
                row(f"two providers on this worker {slowly}", beside, "jobs/s"),
                row("two providers beside a slow third to alone", beside / alone, "ratio", at_least=0.95),
            ],
        )


def _beside_a_slow_one(
    url: str, jobs: Sequence[Mapping[str, Any]], producer: Producer, ends: Ends, slow_ends: Ends, say: Say
) -> tuple[float, float]:
    """Return the jobs a second alone, and while the slow provider has all its calls open; the means of some turns."""
    say(f"two providers: {len(jobs):,} jobs")
    alone, beside = [run(producer, ends, jobs, say)], []
    for turn in range(_ROUNDS):
        waves = 2 + int(1.5 * alone[-1].ended / _SLOW_ANSWERS_IN)
        slow = [producer.generate(**job) for job in _jobs(["Say yes."] * waves * OPEN_CALLS, [_SLOW])]
        producer.flush(120)
        while _open_calls(url) < OPEN_CALLS:
            time.sleep(0.2)
        say(f"two providers beside a slow one: {len(jobs):,} jobs, turn {turn + 1} of {_ROUNDS}")
        beside.append(run(producer, ends, jobs, say))
        if not _open_calls(url):
            raise Stalled("the slow provider had answered all its calls before the others had")
        slow_ends.wait(slow, say)
        alone.append(run(producer, ends, jobs, say))
    return sum(flow.rate for flow in alone) / len(alone), sum(flow.rate for flow in beside) / len(beside)


def _entry(alias: str, url: str) -> str:
    return (
        f'[models.{alias}]\nengine = "openai"\nmodel = "m"\nendpoint = "{url}/{alias}/v1"\ncontext_length = 8192\n'
        f"open_calls = {OPEN_CALLS}\nfirst_token = 120\n"
    )


def _jobs(prompts: Sequence[str], models: Sequence[str]) -> list[Mapping[str, Any]]:
    """Return a job for each prompt, of the models in turns."""
    return [
        {"model": models[number % len(models)], "prompt": prompt, "max_tokens": ECHO_TOKENS, "lane": "batch"}
        for number, prompt in enumerate(prompts)
    ]


def _open_calls(url: str) -> int:
    """Return how many calls the slow provider has not answered."""
    with urlopen(f"{url}/open") as answer:
        return int(answer.read())


def _bare(url: str, prompts: Sequence[str], say: Say) -> float:
    """Return the calls a second of a client that does nothing else, through the same library."""
    say(f"bare client: {len(prompts):,} calls")
    return asyncio.run(_call_all(url, prompts))


async def _call_all(url: str, prompts: Sequence[str]) -> float:
    import openai

    async with openai.AsyncOpenAI(api_key="none", base_url=f"{url}/v1", max_retries=0, timeout=120) as client:
        room = asyncio.Semaphore(OPEN_CALLS)

        async def call(prompt: str) -> None:
            async with room:
                chunks = await client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": prompt}], stream=True, max_tokens=ECHO_TOKENS
                )
                async for _ in chunks:
                    pass

        begun = time.monotonic()
        await asyncio.gather(*map(call, prompts))
        return len(prompts) / (time.monotonic() - begun)


@contextmanager
def _endpoint() -> Iterator[str]:
    (port,) = free_ports(1)
    child = subprocess.Popen(
        [sys.executable, "-m", "bench.remote", str(port)], cwd=Path(__file__).parents[1], stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        child.stdout.readline()  # it listens
        yield f"http://127.0.0.1:{port}"
    finally:
        child.terminate()
        child.wait()


def _chunk(**fields: object) -> bytes:
    data = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", **fields}
    event = b"data: " + json.dumps(data).encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


def _choice(text: str, finish: str | None) -> list[dict[str, object]]:
    return [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]


_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_BODY: Final = (
    b"".join(_chunk(choices=_choice(f"word{number} ", None)) for number in range(ECHO_TOKENS))
    + _chunk(choices=_choice("end", "stop"))
    + _chunk(choices=[], usage={"prompt_tokens": 20, "completion_tokens": 17, "total_tokens": 37})
    + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
)


_open: Final = {_SLOW: 0}  # calls of the slow provider


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            await reader.readexactly(int(fields.get("content-length", 0)))
            if head.startswith("GET"):
                told = str(_open[_SLOW])
                writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(told)}\r\n\r\n{told}".encode())
            elif head.startswith(f"POST /{_SLOW}/"):
                _open[_SLOW] += 1
                await asyncio.sleep(_SLOW_ANSWERS_IN)
                _open[_SLOW] -= 1
                writer.write(_HEAD + _BODY)
            else:
                await asyncio.sleep(_ANSWERS_IN)
                writer.write(_HEAD + _BODY)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def _listen(port: int) -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", port, backlog=1024)
    print("listening", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_listen(int(sys.argv[1])))

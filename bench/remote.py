"""Models on other machines: jobs a second of one worker, beside a bare asyncio client that holds as many calls open.

`python -m bench.remote PORT` is the endpoint: it speaks OpenAI's stream, and answers each call in half a second.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.deployment import TWO_WORKERS, deployment
from bench.ends import Ends, Say
from bench.flow import ECHO_TOKENS, requests, run
from bench.report import Report, report, row
from bench.services import services
from headrace_workers.runtime.embedded.free_ports import free_ports

NAME = "remote"
ALIAS = "far"
OPEN_CALLS = 64
_ANSWERS_IN: Final = 0.5  # seconds
_ROUNDS: Final = 2  # of the worker; the bare client goes before, between and after


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """4,000 jobs (400 when quick) through one worker with 64 open calls, twice, beside the calls of a bare client."""
    count = 400 if quick else 4_000
    prompts = [str(each["prompt"]) for each in requests(count)]
    with services(embedded=embedded) as there, _endpoint() as url:
        home = there.folder / "home"
        home.mkdir()
        (home / "models.toml").write_text(
            f'[models.{ALIAS}]\nengine = "openai"\nmodel = "m"\nendpoint = "{url}/v1"\ncontext_length = 8192\n'
            f"open_calls = {OPEN_CALLS}\n"
        )
        jobs = [{"model": ALIAS, "prompt": prompt, "max_tokens": ECHO_TOKENS, "lane": "batch"} for prompt in prompts]
        with (
            deployment(there, home, [ALIAS], TWO_WORKERS) as live,
            live.producer() as producer,
            Ends(live.kafka) as ends,
        ):
            run(producer, ends, jobs[:OPEN_CALLS], say)
            bare, piped = [_bare(url, prompts, say)], []
            for turn in range(_ROUNDS):
                say(f"headrace: {count:,} jobs, turn {turn + 1} of {_ROUNDS}")
                piped.append(run(producer, ends, jobs, say).rate)
                bare.append(_bare(url, prompts, say))
        client, worker = sum(bare) / len(bare), sum(piped) / len(piped)
        what = f"{OPEN_CALLS} open calls, answers in {_ANSWERS_IN:g} s"
        return report(
            NAME,
            there.stack,
            [
                row(f"bare asyncio client, {what}", client, "calls/s"),
                row(f"headrace, one worker, {what}", worker, "jobs/s"),
                row("headrace to the bare client", worker / client, "ratio", at_least=0.85),
            ],
        )


def _bare(url: str, prompts: Sequence[str], say: Say) -> float:
    """Return the calls a second of a client that does nothing else, through the same library."""
    say(f"bare client: {len(prompts):,} calls")
    return asyncio.run(_call_all(url, prompts))


async def _call_all(url: str, prompts: Sequence[str]) -> float:
    import openai

    async with openai.AsyncOpenAI(api_key="none", base_url=f"{url}/v1", max_retries=0) as client:
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


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            await reader.readexactly(int(fields["content-length"]))
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

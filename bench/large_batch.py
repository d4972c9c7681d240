"""A very large batch over HTTP: `python -m bench.large_batch --lines 1000000`. It takes both cores for long,
and so is no part of `make bench`.

The file, of a kilobyte a line, is sent in parts by the `openai` client, run as a batch of echo lines, and its output
read back as a stream. The memory of the gateway and of the bridge, which feeds and writes, is looked at all the while,
and compared with that of a batch of 10,000 lines on the same processes.
"""

import argparse
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import openai
import psutil
from rich.console import Console

from bench.deployment import TWO_WORKERS, Deployment, deployment
from bench.ends import Say, Stalled
from bench.flow import ECHO, make_home
from bench.report import Report, Row, report, row, show
from bench.services import Services, services
from headrace_workers.runtime.embedded.free_ports import free_ports

NAME = "large-batch"
_SMALL = 10_000  # lines of the batch that it is compared with
_PROMPT = "The mill stands by the river, and its wheel turns slowly in the evening light. " * 11  # a kilobyte a line
_CHAT = "/v1/chat/completions"
_MIB = 2**20
_LOOK_SECONDS = 0.2
_SAY_SECONDS = 30.0
_WATCHED = ("bridge", "gateway")


@dataclass
class Seen:
    """The largest resident memory of each process, in MiB, while it was looked at."""

    peaks: dict[str, float] = field(default_factory=dict)

    def look(self, processes: dict[str, psutil.Process]) -> None:
        """Look at these now."""
        for name, process in processes.items():
            self.peaks[name] = max(self.peaks.get(name, 0.0), process.memory_info().rss / _MIB)


def bench(say: Say, *, lines: int, embedded: bool = False) -> Report:
    """A batch of 10,000 lines, then one of so many."""
    with services(embedded=embedded) as there:
        home = make_home(there.folder, ECHO)
        (port,) = free_ports(1)
        with (
            deployment(there, home, [ECHO], TWO_WORKERS, gateway=port) as live,
            openai.OpenAI(
                base_url=f"http://127.0.0.1:{port}/v1", api_key=live.door_key("bench"), timeout=600.0
            ) as client,
        ):
            small, _ = _run(there, live, client, _SMALL, say)
            large, seconds = _run(there, live, client, lines, say)
        rows = [row(f"batch of {lines:,} lines over HTTP, from its upload to its last answer read",
                    lines / seconds, "lines/s")]  # fmt: skip
        return report(NAME, there.stack, [*rows, *_memory(small, large, lines)])


def _memory(small: Seen, large: Seen, lines: int) -> Iterator[Row]:
    for name in _WATCHED:
        yield row(f"{name}: most resident memory, {_SMALL:,} lines", small.peaks[name], "MiB")
        yield row(f"{name}: most resident memory, {lines:,} lines", large.peaks[name], "MiB")
        yield row(f"{name}: the same, to that before", large.peaks[name] / small.peaks[name], "ratio", at_most=1.1)


def _run(there: Services, live: Deployment, client: openai.OpenAI, lines: int, say: Say) -> tuple[Seen, float]:
    path = there.folder / "lines.jsonl"
    size = _write(path, lines)
    say(f"{lines:,} lines, {size / 1e6:,.0f} MB")
    begun = time.monotonic()
    with _watched(live) as seen:
        upload = client.uploads.upload_file_chunked(
            file=path, bytes=size, mime_type="application/jsonl", purpose="batch", part_size=64_000_000
        )
        assert upload.file is not None
        say(f"sent in {time.monotonic() - begun:,.0f} s")
        path.unlink()
        batch = client.batches.create(input_file_id=upload.file.id, endpoint=_CHAT, completion_window="24h")
        output = _ended(client, batch.id, lines, say)
        _check(client, output, lines)
        seconds = time.monotonic() - begun
    for file_id in (upload.file.id, output):
        client.files.delete(file_id)
    say(f"{lines / seconds:,.0f} lines/s; " + ", ".join(f"{name} {mib:,.0f} MiB" for name, mib in seen.peaks.items()))
    return seen, seconds


def _write(path: Path, lines: int) -> int:
    with path.open("wb") as file:
        for number in range(1, lines + 1):
            content = f"{number}. {_PROMPT}"
            body = {"model": ECHO, "max_completion_tokens": 16, "messages": [{"role": "user", "content": content}]}
            line = {"custom_id": f"line-{number}", "method": "POST", "url": _CHAT, "body": body}
            file.write(json.dumps(line).encode() + b"\n")
        return file.tell()


@contextmanager
def _watched(live: Deployment) -> Iterator[Seen]:
    seen, over = Seen(), threading.Event()
    processes = {name: psutil.Process(live.pids[name]) for name in _WATCHED}

    def look() -> None:
        while not over.wait(_LOOK_SECONDS):
            seen.look(processes)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield seen
    finally:
        over.set()
        looking.join()


def _ended(client: openai.OpenAI, batch_id: str, lines: int, say: Say) -> str:
    """Wait for a batch; the id of its output."""
    said = time.monotonic()
    while (batch := client.batches.retrieve(batch_id)).status in ("validating", "in_progress", "finalizing"):
        if time.monotonic() - said > _SAY_SECONDS and batch.request_counts:
            said = time.monotonic()
            say(f"{batch.request_counts.completed:,} of {lines:,}")
        time.sleep(0.5)
    if batch.status != "completed" or batch.output_file_id is None:
        raise Stalled(f"the batch is {batch.status}: {batch.request_counts}")
    return batch.output_file_id


def _check(client: openai.OpenAI, file_id: str, lines: int) -> None:
    """Read the output as a stream: it must have each line once."""
    there = bytearray(lines + 1)
    with client.files.with_streaming_response.content(file_id) as answer:
        for text in answer.iter_lines():
            number = json.loads(text)["line"]
            if there[number]:
                raise Stalled(f"line {number} is in the output twice")
            there[number] = 1
    if missing := lines - sum(there):
        raise Stalled(f"{missing:,} lines are not in the output")


def main() -> None:
    """Run it, and show what it found."""
    parser = argparse.ArgumentParser(prog="python -m bench.large_batch", description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000, help="lines of the large batch")
    parser.add_argument("--embedded", action="store_true", help="on the services of the embedded stack")
    options = parser.parse_args()
    progress = Console(stderr=True)
    found = bench(lambda text: progress.print(f"  {text}", markup=False, highlight=False),
                  lines=options.lines, embedded=options.embedded)  # fmt: skip
    show(found, Console())


if __name__ == "__main__":
    main()

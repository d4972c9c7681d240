"""Files that are large, or claim to be, by the unmodified `openai` client."""

import gzip
import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest
import zstandard
from tests.workers.http.served import Gateway, served
from tests.workers.http.test_processes import process

from headrace_workers.runtime.settings import Settings

LARGE = 512 * 1024**2  # bytes, twice what a gateway may have in memory
LINE = 1_024  # bytes of each
MOST = 256  # MiB that a gateway may have in memory: a part is 64, and it has several at no time


@pytest.fixture
def second(settings: Settings):
    with served(settings) as gateway:
        yield gateway


@pytest.mark.slow
def test_a_large_file_comes_in_parts(settings: Settings, second: Gateway, tmp_path: Path):
    path, digest = tmp_path / "large.jsonl", hashlib.md5(usedforsecurity=False)
    with path.open("wb") as file:
        for number in range(LARGE // LINE):
            head = f'{{"prompt": "line {number}", "metadata": {{"fill": "'.encode()
            line = head + b"x" * (LINE - len(head) - 4) + b'"}}\n'
            digest.update(line)
            file.write(line)
    assert path.stat().st_size == LARGE
    assert len(json.loads(line)["prompt"]) == len("line 524287")
    with process(settings, tmp_path) as (child, url):
        ai = openai.OpenAI(base_url=f"{url}/v1", api_key=second.key(), max_retries=0)
        before = _peak(child.process.pid)
        made = ai.uploads.upload_file_chunked(
            file=path, mime_type="text/jsonl", purpose="batch", md5=digest.hexdigest()
        )
        assert (made.status, made.bytes, made.file.bytes) == ("completed", LARGE, LARGE)
        batch = ai.batches.create(input_file_id=made.file.id, endpoint="/v1/jobs", completion_window="24h")
        assert batch.request_counts.total == LARGE // LINE
        with ai.files.with_streaming_response.content(made.file.id) as content:
            back = hashlib.md5(usedforsecurity=False)
            for chunk in content.iter_bytes(1024**2):
                back.update(chunk)
        assert back.hexdigest() == digest.hexdigest()
        assert _peak(child.process.pid) <= before + MOST


HOSTILE = 20  # uploads: each kind by each of four tenants, half of them in parts
COMPOSE = 384  # MiB that a gateway may have in docker-compose.yml


def test_files_that_claim_to_be_very_large_cost_little(settings: Settings, second: Gateway, tmp_path: Path):
    mebi, lines = 1024**2, (b"x" * 100_000 + b"\n") * 10
    bombs = [
        zstandard.compress(b"\n" * mebi) * 128, zstandard.compress(b"a\n" * mebi) * 128,
        gzip.compress(b"\n" * mebi) * 128, zstandard.compress(b"a" * mebi) * 512, zstandard.compress(lines) * 500,
    ]  # fmt: skip
    assert max(map(len, bombs)) < 200_000
    whys = ("has more than 10,000,000 lines", "has more than 10,000,000 lines", "has more than 10,000,000 lines",
            "has more than 268,435,456 bytes in line 1", None)  # fmt: skip

    def send(number: int) -> str | None:
        data = bombs[number % len(bombs)]
        try:
            if number % 2:
                clients[number % 4].files.create(file=("jobs.jsonl", data), purpose="batch")
            else:
                clients[number % 4].uploads.upload_file_chunked(
                    file=data, filename="jobs.jsonl", bytes=len(data), mime_type="text/jsonl", purpose="batch"
                )
        except openai.BadRequestError as error:
            return str(error)
        return None

    with process(settings, tmp_path) as (child, url), ThreadPoolExecutor(HOSTILE) as threads:
        clients = [
            openai.OpenAI(base_url=f"{url}/v1", api_key=second.key(f"tenant-{n}"), max_retries=20) for n in range(4)
        ]
        before = _peak(child.process.pid)
        told = list(threads.map(send, range(HOSTILE)))
        for number, said in enumerate(told):
            why = whys[number % len(whys)]
            assert (said is None) if why is None else (said is not None and why in said), (number, said)
        peak = _peak(child.process.pid)
        print(f"gateway: {before:.0f} MiB before, at most {peak:.0f} MiB under {HOSTILE} hostile uploads")
        assert peak < COMPOSE


def _peak(pid: int) -> float:
    (found,) = re.findall(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found) / 1024

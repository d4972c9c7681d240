"""A file of a gigabyte, in parts, by the unmodified `openai` client."""

import hashlib
import json
import re
from pathlib import Path

import openai
import pytest
from tests.workers.gateway.served import Gateway, served
from tests.workers.gateway.test_processes import process

from headrace_workers.settings import Settings

LARGE = 1024**3  # bytes
LINE = 1_024  # bytes of each
MOST = 256  # MiB that a gateway may have in memory: a part is 64, and it has several at no time


@pytest.fixture
def second(settings: Settings):
    """Another gateway of the deployment, in this process."""
    with served(settings) as found:
        yield found


@pytest.mark.slow
def test_a_gigabyte_comes_in_parts(settings: Settings, second: Gateway, tmp_path: Path):
    """Each byte at its place, by the client's own helper; the gateway never has much of it in memory, and a batch may
    be made of it.
    """
    path, digest = tmp_path / "large.jsonl", hashlib.md5(usedforsecurity=False)
    with path.open("wb") as file:
        for number in range(LARGE // LINE):
            head = f'{{"prompt": "line {number}", "metadata": {{"fill": "'.encode()
            line = head + b"x" * (LINE - len(head) - 4) + b'"}}\n'
            digest.update(line)
            file.write(line)
    assert path.stat().st_size == LARGE
    assert len(json.loads(line)["prompt"]) == len("line 1048575")
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


def _peak(pid: int) -> float:
    """The most memory that a process has had, in MiB."""
    (found,) = re.findall(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found) / 1024

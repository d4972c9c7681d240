"""`models convert OWNER/NAME`: a folder of the hub, by huggingface_hub, from a mirror on this machine."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from tests.workers.models.hub_mirror import serving
from tests.workers.models.test_convert import need_torch
from tests.workers.sentence_folder import write_sentence_folder

from headrace_workers.models.registry import load_card

COMMIT = "89abcdef0123456789abcdef0123456789abcdef"


@contextmanager
def mirror_of(folder: Path, names: list[str], send: Callable[[str, bytes], bytes]) -> Iterator[str]:
    """A mirror with one repository, `owner/name`, that lists `names`. `send` says what a response really has."""

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(send_body=False)

        def do_GET(self) -> None:
            self._answer(send_body=True)

        def _answer(self, *, send_body: bool) -> None:
            path = self.path.partition("?")[0]
            name = path.partition(f"/resolve/{COMMIT}/")[2]
            if path.startswith("/api/models/owner/name/tree/"):
                sizes = [(text, (folder / text).stat().st_size) for text in names]
                files = [{"type": "file", "path": text, "size": size, "oid": "0" * 40} for text, size in sizes]
                self._say(200, json.dumps(files).encode(), "", send_body)
            elif path.startswith("/api/models/owner/name"):
                siblings = [{"rfilename": text} for text in names]
                about = {"id": "owner/name", "sha": COMMIT, "siblings": siblings}
                self._say(200, json.dumps(about).encode(), "", send_body)
            elif name and (folder / name).is_file():
                self._say(200, (folder / name).read_bytes(), name, send_body)
            else:
                self._say(404, b"", "", send_body)

        def _say(self, status: int, body: bytes, name: str, send_body: bool) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            # A client that is not told would send its next request into a connection that ends.
            self.send_header("Connection", "close")
            self.end_headers()
            if send_body:
                self.wfile.write(send(name, body) if name else body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with serving(Hub) as endpoint:
        yield endpoint


def convert_from(endpoint: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does: huggingface_hub reads its environment when it is imported."""
    env = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home / "hf"), "HEADRACE_HOME": str(home),
           "HF_HUB_DOWNLOAD_TIMEOUT": "5", "HF_HUB_ETAG_TIMEOUT": "5"}  # fmt: skip
    command = [sys.executable, "-m", "headrace_workers", "models", "convert", "owner/name", "--alias", "mine"]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=300)


def names_in(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]


@pytest.mark.slow
def test_a_folder_of_the_hub_becomes_a_model(tmp_path: Path) -> None:
    need_torch()
    folder = write_sentence_folder(tmp_path / "source")
    with mirror_of(folder, names_in(folder), lambda name, body: body) as endpoint:
        done = convert_from(endpoint, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    card = load_card(tmp_path / "home", "mine")
    source, _, digest = card.source.partition("#sha256=")
    assert (source, len(digest), card.kind) == (f"hub:owner/name@{COMMIT}", 64, "embedder")


@pytest.mark.slow
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    need_torch()
    folder = write_sentence_folder(tmp_path / "source" / "inner")
    (tmp_path / "source" / "evil.json").write_text("{}")
    with mirror_of(folder, [*names_in(folder), "../evil.json"], lambda name, body: body) as endpoint:
        done = convert_from(endpoint, tmp_path / "home")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "owner/name cannot be fetched from the hub" in " ".join(done.stderr.split())
    assert "'../evil.json'" in done.stderr
    assert len(list(tmp_path.rglob("evil.json"))) == 1  # the mirror's own


@pytest.mark.slow
def test_a_file_that_is_cut_makes_no_model(tmp_path: Path) -> None:
    """A connection that always ends early leaves nothing behind that could be served."""
    need_torch()
    folder = write_sentence_folder(tmp_path / "source")

    def cut(name: str, body: bytes) -> bytes:
        return body[: len(body) // 2] if "safetensors" in name else body

    with mirror_of(folder, names_in(folder), cut) as endpoint:
        done = convert_from(endpoint, tmp_path / "home")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "without sending complete message body" in done.stderr
    assert not (tmp_path / "home" / "models" / "mine").exists()

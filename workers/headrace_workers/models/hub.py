"""Files of the model hub, and models on it that are worth a first try.

The hub answers a HEAD request with the commit of the file (`X-Repo-Commit`), its SHA-256 (`X-Linked-ETag`) and its size
(`X-Linked-Size`), and a GET request with a redirect to a store on another host. HF_ENDPOINT names a mirror of the hub.
huggingface_hub does not resume a download that failed: see docs/decisions/own-hub-download.md.
"""

import fcntl
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

import httpx

from headrace_schemas.errors import ConfigurationError, Unavailable
from headrace_workers.core.environment import environment
from headrace_workers.core.private_files import opened_privately, private_folder
from headrace_workers.models.registry import ChecksumMismatch, Progress, sha256_of

_HUB: Final = "https://huggingface.co"
_REPOSITORY: Final = re.compile(r"[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95}", re.ASCII)
_NAME: Final = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)*\.gguf", re.ASCII)
_REVISION: Final = re.compile(r"[\w-][\w.-]{0,95}", re.ASCII)
_SHA256: Final = re.compile(r'(?:W/)?"?([0-9a-f]{64})"?')
_SHA256_HEADER: Final = "x-linked-etag"
_TRIES: Final = 3  # without a single new byte between them
_TIMEOUT: Final = httpx.Timeout(30.0, connect=10.0)  # of silence, not of the whole

_PROCESS: Final = 300_000_000  # bytes of a worker without a model
_BATCH_TOKENS: Final = 2_048  # of the prompts in a batch on a CPU: each has a float32 for each token of the vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """A GGUF file on the hub. `revision` is a commit or a branch; `sha256` is "" where the hub's own is believed."""

    repository: str
    name: str
    revision: str = "main"
    sha256: str = ""

    def __post_init__(self) -> None:
        """Raise ConfigurationError for a name that the hub does not allow, or that leads out of its folder."""
        parts = (
            (_REPOSITORY, self.repository, "OWNER/NAME"),
            (_NAME, self.name, "a path that ends in .gguf"),
            (_REVISION, self.revision, "a commit or a branch"),
        )
        for pattern, text, wanted in parts:
            if pattern.fullmatch(text) is None:  # no part begins with a dot
                raise ConfigurationError(f"{text!r} names nothing on the hub: it must be {wanted}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the file that `OWNER/NAME/FILE.gguf` or `OWNER/NAME@REVISION/FILE.gguf` names."""
        owner, _, rest = text.partition("/")
        repository, _, name = rest.partition("/")
        repository, _, revision = repository.partition("@")
        return cls(repository=f"{owner}/{repository}", name=name, revision=revision or "main")

    def url(self, hub: str) -> str:
        """Return the address of the file on a hub."""
        return f"{hub}/{self.repository}/resolve/{self.revision}/{quote(self.name)}"


def download(
    file: HubFile, folder: Path, progress: Progress = lambda doing, done: None, env: Mapping[str, str] | None = None
) -> tuple[Path, HubFile]:
    """Download a file into the folder, under its SHA-256 as name; a download that was cut is continued there. Return
    its path, which is the caller's to remove, and the file with its commit and its hash.

    Raise ChecksumMismatch if the content is another, Unavailable if the hub, the network or the disk fails, and
    ConfigurationError if the hub has no such file or wants a token.
    """
    hub = (environment(env).get("HF_ENDPOINT") or _HUB).rstrip("/")
    headers = {"Accept-Encoding": "identity"}
    if token := environment(env).get("HF_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"  # httpx sends it to no other host
    with httpx.Client(timeout=_TIMEOUT, headers=headers, follow_redirects=True, max_redirects=5) as client:
        pinned, size = _ask(client, hub, file)
        private_folder(folder)
        path = folder / f"{pinned.sha256}.gguf"
        with open(path, "ab", buffering=0, opener=opened_privately) as target:
            try:
                fcntl.flock(target, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise Unavailable(
                    f"another process downloads {file.name} to {path}: wait until it has ended"
                ) from error
            needed, free = size - target.tell(), shutil.disk_usage(folder).free
            if free < needed:
                raise Unavailable(
                    f"{file.name} needs {needed / 1e9:.1f} GB more, and {folder} has {free / 1e9:.1f} GB left: make "
                    "room, or move HEADRACE_HOME"
                )
            _fill(client, hub, pinned, size, target, progress)
    if (actual := sha256_of(path)) != pinned.sha256:
        path.unlink()
        raise ChecksumMismatch(
            f"{file.name} of {file.repository} has sha256 {actual}, expected {pinned.sha256}; nothing was installed"
        )
    return path, pinned


def _ask(client: httpx.Client, hub: str, file: HubFile) -> tuple[HubFile, int]:
    """Return the file with the commit and the hash that the hub names, and its size in bytes.

    Raise ChecksumMismatch if that is not the file that is wanted.
    """
    try:
        response = client.head(file.url(hub))
        answer = next((step for step in response.history if _SHA256_HEADER in step.headers), response)
        _check_status(answer, file)
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise Unavailable(
            f"the hub {hub} cannot be reached: {reason}. With a mirror, set HF_ENDPOINT; with the file at hand, use "
            "`headrace models convert FILE.gguf`"
        ) from error
    told = _SHA256.fullmatch(answer.headers.get(_SHA256_HEADER, ""))
    sha256 = told[1] if told else file.sha256
    if file.sha256 and sha256 != file.sha256:
        raise ChecksumMismatch(
            f"the hub's {file.name} of {file.repository} has sha256 {sha256}, expected {file.sha256}; nothing was "
            "downloaded"
        )
    size = answer.headers.get("x-linked-size") or answer.headers.get("content-length", "")
    if not sha256 or not size.isdecimal() or not int(size):
        raise Unavailable(f"{file.url(hub)} has no SHA-256 or size in its headers: it is no hub, or no mirror of one")
    return replace(file, revision=answer.headers.get("x-repo-commit") or file.revision, sha256=sha256), int(size)


def _fill(client: httpx.Client, hub: str, file: HubFile, size: int, target: FileIO, progress: Progress) -> None:
    """Append the missing part of the file, in as many requests as it takes."""
    furthest, tries = target.tell(), 0
    while (have := target.tell()) < size:
        problem = "the connection ended early"
        try:
            with client.stream("GET", file.url(hub), headers={"Range": f"bytes={have}-"} if have else {}) as response:
                _check_status(response, file)
                if not response.headers.get("content-range", "").startswith(f"bytes {have}-"):
                    target.truncate(0)  # this server always sends the whole
                    target.seek(0)
                for chunk in response.iter_raw():
                    rest = memoryview(chunk)[: size - target.tell()]
                    while rest:  # a disk that is almost full takes only a part
                        rest = rest[target.write(rest) :]
                    progress(f"downloading {file.name}, {size / 1e9:.1f} GB", target.tell() / size)
                    if target.tell() == size:
                        return
        except (httpx.HTTPError, OSError) as error:
            problem = str(error) or type(error).__name__
        tries = 0 if target.tell() > furthest else tries + 1
        furthest = max(furthest, target.tell())
        if tries == _TRIES:
            raise Unavailable(
                f"{file.name} of {file.repository} arrived as far as byte {target.tell():,} of {size:,}, then "
                f"{problem}; the same command goes on from there"
            )
        time.sleep(tries)


def _check_status(response: httpx.Response, file: HubFile) -> None:
    status, what = response.status_code, f"{file.name} of {file.repository} at {file.revision}"
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise ConfigurationError(
            f"the hub shows {what} to no one without leave (it answered {status}): accept its licence on the hub, and "
            "set HF_TOKEN"
        )
    if status == httpx.codes.NOT_FOUND:
        raise ConfigurationError(f"the hub has no {what}")
    if status >= httpx.codes.BAD_REQUEST:
        raise httpx.HTTPError(f"the hub answered {status} for {what}")


_STACK: Final = 2_000_000_000  # bytes of memory that a stack takes without a model, and the system


@dataclass(frozen=True, slots=True, kw_only=True)
class HubModel:
    """A model on the hub, and what a person must know to choose it. Sizes are in bytes; `int8_bytes` is the size of
    the converted weights, and `vocabulary` a number of tokens. `suits` completes "It suits …".
    """

    file: HubFile
    billions: float
    download_bytes: int
    int8_bytes: int
    licence: str
    context_length: int
    vocabulary: int
    suits: str
    checked: bool = False

    @property
    def memory(self) -> int:
        """Return the bytes of memory that a worker with this model takes on a CPU, about: with a full batch."""
        return self.int8_bytes + _BATCH_TOKENS * self.vocabulary * 4 + _PROCESS


HUB_MODELS: Final[Mapping[str, HubModel]] = {
    "qwen2.5-0.5b-instruct": HubModel(
        file=HubFile(
            repository="Qwen/Qwen2.5-0.5B-Instruct-GGUF",
            name="qwen2.5-0.5b-instruct-q8_0.gguf",
            revision="9217f5db79a29953eb74d5343926648285ec7e67",
            sha256="ca59ca7f13d0e15a8cfa77bd17e65d24f6844b554a7b6c12e07a5f89ff76844e",
        ),
        billions=0.5,
        download_bytes=675_710_816,
        int8_bytes=500_000_000,
        licence="Apache-2.0",
        context_length=32_768,
        vocabulary=151_936,
        suits="short answers in many languages",
    ),
    "qwen2.5-coder-0.5b-instruct": HubModel(
        file=HubFile(
            repository="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
            name="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            revision="ebb2015119c907b064c512bf053e945850b5875f",
            sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        ),
        billions=0.5,
        download_bytes=491_400_064,
        int8_bytes=632_839_555,
        licence="Apache-2.0",
        context_length=32_768,
        vocabulary=151_936,
        suits="short programs",
        checked=True,
    ),
    "qwen2.5-1.5b-instruct": HubModel(
        file=HubFile(
            repository="Qwen/Qwen2.5-1.5B-Instruct-GGUF",
            name="qwen2.5-1.5b-instruct-q8_0.gguf",
            revision="91cad51170dc346986eccefdc2dd33a9da36ead9",
            sha256="d7efb072e7724d25048a4fda0a3e10b04bdef5d06b1403a1c93bd9f1240a63c8",
        ),
        billions=1.5,
        download_bytes=1_894_532_128,
        int8_bytes=1_800_000_000,
        licence="Apache-2.0",
        context_length=32_768,
        vocabulary=151_936,
        suits="summaries, extraction and chat",
    ),
    "smollm2-1.7b-instruct": HubModel(
        file=HubFile(
            repository="HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF",
            name="smollm2-1.7b-instruct-q4_k_m.gguf",
            sha256="decd2598bc2c8ed08c19adc3c8fdd461ee19ed5708679d1c54ef54a5a30d4f33",
        ),
        billions=1.7,
        download_bytes=1_055_609_536,
        int8_bytes=1_800_000_000,
        licence="Apache-2.0",
        context_length=8_192,
        vocabulary=49_152,
        suits="summaries and rewriting in English",
    ),
    "qwen2.5-7b-instruct": HubModel(
        file=HubFile(
            repository="bartowski/Qwen2.5-7B-Instruct-GGUF",
            name="Qwen2.5-7B-Instruct-Q4_K_M.gguf",
            revision="8911e8a47f92bac19d6f5c64a2e2095bd2f7d031",
            sha256="65b8fcd92af6b4fefa935c625d1ac27ea29dcb6ee14589c55a8f115ceaaa1423",
        ),
        billions=7.6,
        download_bytes=4_683_074_240,
        int8_bytes=7_700_000_000,
        licence="Apache-2.0",
        context_length=32_768,
        vocabulary=151_936,
        suits="questions that need knowledge",
    ),
}


def largest_that_fits(memory: int | None) -> str | None:
    """Return the largest model of the list that a machine with so many bytes of memory can serve beside a stack; None
    where none can, or the memory is not known.
    """
    fits = [name for name, model in HUB_MODELS.items() if memory is not None and model.memory + _STACK <= memory]
    return max(fits, key=lambda name: HUB_MODELS[name].billions, default=None)

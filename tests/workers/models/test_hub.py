import fcntl
import hashlib
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.workers.models.hub_mirror import COMMIT, Mirror, hub_mirror

from headrace_schemas.errors import ConfigurationError, HeadraceError, Unavailable
from headrace_workers.models.hub import HubFile, download
from headrace_workers.models.registry import ChecksumMismatch

CONTENT = random.Random(3).randbytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FILE = HubFile(repository="owner/some-GGUF", name="some-model.q8_0.gguf")


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    """A mirror with one file, without faults."""
    with hub_mirror(Mirror(CONTENT)) as running:
        yield running


def half(rest: bytes) -> bytes:
    return rest[: len(rest) // 2]


def test_a_file_is_fetched_by_its_commit(mirror: Mirror, tmp_path: Path) -> None:
    seen: list[float] = []
    path, pinned = download(FILE, tmp_path, lambda _doing, done: seen.append(done), env=mirror.env())
    assert path.read_bytes() == CONTENT
    assert (seen == sorted(seen), seen[-1]) == (True, 1.0)
    assert (pinned.revision, pinned.sha256) == (COMMIT, SHA256)
    assert [path for _, path, *_ in mirror.requests] == [
        f"/owner/some-GGUF/resolve/main/{FILE.name}",
        f"/owner/some-GGUF/resolve/{COMMIT}/{FILE.name}",
    ]


def test_a_cut_download_goes_on_where_it_ended(mirror: Mirror, tmp_path: Path) -> None:
    sends = iter([half, half, bytes])

    def send(rest: bytes) -> bytes:
        return next(sends)(rest)

    mirror.send = send
    assert download(FILE, tmp_path, env=mirror.env())[0].read_bytes() == CONTENT
    assert [ranged for _, _, ranged, _ in mirror.stored] == [None, "bytes=1500000-", "bytes=2250000-"]


def test_the_next_call_goes_on_too(mirror: Mirror, tmp_path: Path) -> None:
    mirror.send = lambda rest: half(rest) if len(rest) == len(CONTENT) else b""
    with pytest.raises(Unavailable, match=r"as far as byte 1,500,000 of 3,000,000.*goes on from there"):
        download(FILE, tmp_path, env=mirror.env())
    mirror.send = bytes
    mirror.stored.clear()
    assert download(FILE, tmp_path, env=mirror.env())[0].read_bytes() == CONTENT
    assert [ranged for _, _, ranged, _ in mirror.stored] == ["bytes=1500000-"]


def test_a_store_without_ranges_that_never_ends_is_given_up(mirror: Mirror, tmp_path: Path) -> None:
    mirror.ranges = False
    mirror.send = lambda rest: rest[: 1_000_000 + 1_000 * (len(mirror.stored) % 2)]
    with pytest.raises(Unavailable, match="arrived as far as byte"):
        download(FILE, tmp_path, env=mirror.env())
    assert len(mirror.stored) <= 5


def test_other_content_is_refused_and_removed(mirror: Mirror, tmp_path: Path) -> None:
    mirror.send = lambda rest: rest[:-1] + b"?"
    with pytest.raises(ChecksumMismatch, match=f"expected {SHA256}; nothing was installed"):
        download(FILE, tmp_path, env=mirror.env())
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_beginning_is_found(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / f"{SHA256}.gguf").write_bytes(b"?" * 1_000)
    with pytest.raises(ChecksumMismatch, match="nothing was installed"):
        download(FILE, tmp_path, env=mirror.env())
    assert download(FILE, tmp_path, env=mirror.env())[0].read_bytes() == CONTENT


def test_a_hub_that_names_another_hash_is_not_read(mirror: Mirror, tmp_path: Path) -> None:
    pinned = HubFile(repository=FILE.repository, name=FILE.name, sha256="0" * 64)
    with pytest.raises(ChecksumMismatch, match="nothing was downloaded"):
        download(pinned, tmp_path, env=mirror.env())
    assert mirror.stored == []


def test_a_store_that_sends_too_much_is_cut_off(mirror: Mirror, tmp_path: Path) -> None:
    mirror.send = lambda rest: rest + b"more"
    assert download(FILE, tmp_path, env=mirror.env())[0].read_bytes() == CONTENT


def test_the_token_goes_to_the_hub_alone(mirror: Mirror, tmp_path: Path) -> None:
    download(FILE, tmp_path, env=mirror.env(HF_TOKEN="hf_secret"))
    assert {token for *_, token in mirror.requests} == {"Bearer hf_secret"}
    assert {token for *_, token in mirror.stored} == {None}


def test_a_redirect_without_end_is_not_followed(mirror: Mirror, tmp_path: Path) -> None:
    mirror.location = f"/{FILE.repository}/resolve/main/{FILE.name}"
    with pytest.raises(Unavailable, match="cannot be reached: Exceeded maximum"):
        download(FILE, tmp_path, env=mirror.env())
    assert len(mirror.requests) < 9


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (404, ConfigurationError, "the hub has no some-model.q8_0.gguf of owner/some-GGUF at main"),
        (401, ConfigurationError, "set HF_TOKEN"),
        (503, Unavailable, "503"),
    ],
)
def test_a_refusal_of_the_hub_says_what_to_do(
    mirror: Mirror, tmp_path: Path, status: int, kind: type[HeadraceError], says: str
) -> None:
    mirror.statuses = [status]
    with pytest.raises(kind, match=says):
        download(FILE, tmp_path, env=mirror.env())


def test_a_failing_hub_is_asked_again_for_the_content(mirror: Mirror, tmp_path: Path) -> None:
    requests = iter(range(9))
    mirror.send = lambda rest: half(rest) if next(requests) == 0 else rest
    mirror.before = lambda: mirror.statuses.append(502) if len(mirror.stored) == 1 else None
    assert download(FILE, tmp_path, env=mirror.env())[0].read_bytes() == CONTENT
    assert len(mirror.stored) == 2


@pytest.mark.parametrize("told", ["", "../../../etc/passwd"])
def test_a_hash_that_is_none_is_no_name_of_a_file(mirror: Mirror, tmp_path: Path, told: str) -> None:
    mirror.sha256 = told
    with pytest.raises(Unavailable, match="no SHA-256 or size"):
        download(FILE, tmp_path / "downloads", env=mirror.env())
    assert list(tmp_path.iterdir()) == []


def test_a_mirror_without_hashes_serves_what_is_pinned(mirror: Mirror, tmp_path: Path) -> None:
    mirror.sha256 = ""
    pinned = HubFile(repository=FILE.repository, name=FILE.name, sha256=SHA256)
    assert download(pinned, tmp_path, env=mirror.env())[0].read_bytes() == CONTENT


def test_a_commit_that_is_none_is_not_asked_for(mirror: Mirror, tmp_path: Path) -> None:
    mirror.commit = "../../evil"
    with pytest.raises(ConfigurationError, match="names nothing on the hub"):
        download(FILE, tmp_path, env=mirror.env())


@pytest.mark.parametrize(
    "text",
    ["../x/y.gguf", "owner/../y.gguf", "owner/name/../../y.gguf", "owner/name/a/../b.gguf", "owner/name/.hidden.gguf",
     "owner/name/model.bin", "owner/name@../x.gguf", "owner/name", "/etc/passwd.gguf", "owner/name/a b.gguf",
     "owner/na\x00me/y.gguf", "owner/name/y.gguf?x=.gguf"],
)  # fmt: skip
def test_a_name_that_leads_elsewhere_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="names nothing on the hub"):
        HubFile.parse(text)


def test_a_file_is_named_as_its_page_is() -> None:
    assert HubFile.parse("o/n/dir/f.Q4_K_M.gguf") == HubFile(repository="o/n", name="dir/f.Q4_K_M.gguf")
    assert HubFile.parse("o/n@v1.0/f.gguf") == HubFile(repository="o/n", name="f.gguf", revision="v1.0")


def test_two_downloads_of_a_file_do_not_mix(mirror: Mirror, tmp_path: Path) -> None:
    with (tmp_path / f"{SHA256}.gguf").open("ab") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        with pytest.raises(Unavailable, match="another process downloads"):
            download(FILE, tmp_path, env=mirror.env())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip("a small file system can be mounted by root alone")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_file_that_does_not_fit_is_not_begun(mirror: Mirror, small_disk: Path) -> None:
    (small_disk / "other").write_bytes(b"x" * 2_000_000)
    with pytest.raises(Unavailable, match=r"needs 0\.0 GB more.*make room"):
        download(FILE, small_disk, env=mirror.env())
    assert mirror.stored == []


def test_a_disk_that_fills_meanwhile_keeps_what_arrived(mirror: Mirror, small_disk: Path) -> None:
    other = small_disk / "other"
    mirror.before = lambda: None if other.exists() else other.write_bytes(b"x" * 2_000_000)  # type: ignore[func-returns-value]
    with pytest.raises(Unavailable, match="goes on from there"):
        download(FILE, small_disk, env=mirror.env())
    kept = (small_disk / f"{SHA256}.gguf").stat().st_size
    assert 0 < kept < len(CONTENT)
    other.write_bytes(b"")
    assert download(FILE, small_disk, env=mirror.env())[0].read_bytes() == CONTENT
    assert mirror.stored[-1][2] == f"bytes={kept}-"

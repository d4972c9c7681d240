import json
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.services.eventually import eventually

from headrace_workers.models.structured import compiling
from headrace_workers.models.structured.compiling import _Server, compile_apart

pytestmark = pytest.mark.integration

LETTERS = '%llguidance {}\nstart: "a"'
# Definitions that refer to one another, so deep that llguidance ends its process.
DEEP = "%llguidance {}\nstart: %json " + json.dumps(
    {
        "$defs": {f"d{n}": {"properties": {"n": {"$ref": f"#/$defs/d{(n + 1) % 2_000}"}}} for n in range(2_000)},
        "$ref": "#/$defs/d0",
    }
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Server]:
    server = _Server()
    monkeypatch.setattr(compiling, "_server", server)
    yield server
    server.stop()


def _process(server: _Server) -> int:
    assert server._process is not None
    return server._process.pid


def test_many_grammars_share_a_server(server: _Server) -> None:
    grammars = [f'%llguidance {{}}\nstart: "a" absent{number}' if number % 2 else LETTERS for number in range(16)]
    compile_apart(LETTERS)
    first = _process(server)

    with ThreadPoolExecutor(8) as pool:
        faults = [fault for fault, _ in pool.map(compile_apart, grammars)]

    assert _process(server) == first
    for number, fault in enumerate(faults):
        assert (f"absent{number}" in (fault or "")) if number % 2 else fault is None


def test_a_grammar_that_ends_its_process_ends_no_other(server: _Server) -> None:
    """Nesting that llguidance does not survive is a fault of that grammar; the server and others go on."""
    compile_apart(LETTERS)
    first = _process(server)

    ended = compile_apart(DEEP)

    assert "levels of nesting" in (ended[0] or "")
    assert compile_apart(LETTERS)[0] is None
    assert _process(server) == first


def test_a_server_that_was_killed_starts_again(server: _Server) -> None:
    """Nobody notices that the server is gone: not a grammar that comes later, nor many at once."""
    compile_apart(LETTERS)
    for _ in range(3):
        os.kill(_process(server), signal.SIGKILL)

        with ThreadPoolExecutor(4) as pool:
            assert [fault for fault, _ in pool.map(compile_apart, [LETTERS] * 4)] == [None] * 4


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="Linux says which processes there are")
def test_a_server_ends_with_its_owner(server: _Server) -> None:
    compile_apart(LETTERS)
    assert server._socket is not None
    server._socket.shutdown(socket.SHUT_RDWR)

    assert eventually(lambda: server._process is not None and server._process.poll() is not None)
    assert compile_apart(LETTERS)[0] is None


def test_says_what_it_took(server: _Server) -> None:
    assert 0 < compile_apart(LETTERS)[1] < compiling.CPU_SECONDS
    assert compile_apart(DEEP)[1] == compiling.CPU_SECONDS


def test_a_server_that_never_begins_is_told(server: _Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit(1)")
    monkeypatch.setattr(compiling, "SERVER", broken)

    with pytest.raises(compiling.Unavailable, match="ends at once"):
        compile_apart(LETTERS)


def _ended_by(signal_number: int, times: int, script: Path) -> None:
    """Write a server whose processes are ended so many times in the middle of their work."""
    script.write_text(f"""
import os, socket, sys
from headrace_workers.models.structured import compile_server
compile = compile_server._fault
def ended(grammar, tokenizer):
    with open({str(script.with_suffix(".log"))!r}, "a+") as log:
        log.write(".")
        count = log.tell()
    if count <= {times}:
        os.kill(os.getpid(), {signal_number})
    return compile(grammar, tokenizer)
compile_server._fault = ended
compile_server._serve(socket.socket(fileno=int(sys.argv[1])))
""")


def test_a_process_that_is_killed_blames_no_format(
    server: _Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, number, times in (
        ("once", signal.SIGKILL, 1),
        ("always", signal.SIGKILL, 99),
        ("cpu", signal.SIGXCPU, 99),
    ):
        _ended_by(number, times, tmp_path / f"{name}.py")

    monkeypatch.setattr(compiling, "SERVER", tmp_path / "once.py")
    assert compile_apart(LETTERS)[0] is None
    server.stop()
    monkeypatch.setattr(compiling, "SERVER", tmp_path / "always.py")
    with pytest.raises(compiling.Unavailable, match="it was killed each time"):
        compile_apart(LETTERS)
    server.stop()
    monkeypatch.setattr(compiling, "SERVER", tmp_path / "cpu.py")
    assert "it takes more than" in (compile_apart(LETTERS)[0] or "")

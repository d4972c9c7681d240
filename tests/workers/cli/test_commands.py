"""The commands as they are called, without any stack: what is wrong, where, and what to do."""

import ast
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import zstandard
from tests.services.tables import sqlite_tables
from tests.workers.cli.conftest import Call, job_id

from headrace_schemas import Category, Topic
from headrace_workers.core.ledger.dead_letters import Burial
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.testing import make_echo_model, make_hash_embedder
from headrace_workers.wiring.command_line import all_commands


def commands() -> list[tuple[str, ...]]:
    def within(group: Any, names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for name, command in group.commands.items():
            yield from within(command, (*names, name)) if hasattr(command, "commands") else [(*names, name)]

    return [*within(all_commands(), ())]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_has_help_with_an_example(call: Call, command: tuple[str, ...]):
    code, out, _ = call(*command, "--help")
    assert code == 0
    assert "Example" in out
    assert f"headrace {command[0]}" in out


def test_the_version_and_the_help_have_their_usual_options(call: Call):
    assert call("--version") == (0, f"headrace {version('headrace')}\n", "")
    for command in ((), ("submit",), ("cache",), ("cache", "explain")):
        code, out, err = call(*command, "-h")
        assert (code, err) == (0, "")
        assert out == call(*command, "--help")[1]
        assert "-h" in out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands(tmp_path: Path, shell: str):
    def ask(instruction: str, **said: str) -> str:
        environment = os.environ | {"_HEADRACE_COMPLETE": f"{instruction}_{shell}"} | said
        command = [str(Path(sys.executable).parent / "headrace")]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    if shell == "bash":  # for the others it is Typer's, too
        assert f"_HEADRACE_COMPLETE=complete_{shell}" in ask("source")
    words = {"COMP_WORDS": "headrace cache ex", "COMP_CWORD": "2"}
    asked = {"_TYPER_COMPLETE_ARGS": "headrace cache ex", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    assert "explain" in ask("complete", **words, **asked)


@pytest.mark.parametrize(
    "arguments",
    [("submit", "-p", "x"), ("results",), ("cancel", job_id(1)), ("submit", "-p", "x", "--wait")],
    ids=lambda arguments: " ".join(arguments)[:20],
)
def test_without_kafka_the_ways_to_one_are_named(call: Call, arguments: tuple[str, ...]):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert "HEADRACE_KAFKA" in err
    assert "headrace up" in err


@pytest.mark.parametrize("arguments", [("status",), ("dead", "list"), ("dead", "replay", "--all")])
def test_without_a_ledger_the_ways_to_one_are_named(call: Call, arguments: tuple[str, ...]):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert "HEADRACE_LEDGER" in err
    assert "headrace up" in err
    assert list(Path().iterdir()) == []


def test_a_wrong_line_is_told_before_anything_is_needed(call: Call, tmp_path: Path):
    (tmp_path / "jobs.jsonl").write_text('{"prompt":"a"}\n{"prompt":7}\n')
    for arguments in (("submit", "jobs.jsonl"), ("run", "jobs.jsonl", "-o", "out.jsonl")):
        code, out, err = call(*arguments)
        assert (code, out) == (2, "")
        assert "jobs.jsonl:2: prompt: " in err
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_a_compressed_file_is_read_as_its_text(call: Call, tmp_path: Path, pack: Callable[[bytes], bytes]):
    packed = pack(b'{"prompt":"a"}\n{"prompt":7}\n')
    (tmp_path / "jobs.jsonl.gz").write_bytes(packed)
    for arguments in (("submit", "jobs.jsonl.gz"), ("run", "jobs.jsonl.gz", "-o", "out.jsonl")):
        code, _, err = call(*arguments)
        assert code == 2
        assert "jobs.jsonl.gz:2: prompt: " in err
    (tmp_path / "jobs.jsonl.gz").write_bytes(packed[:-3])
    code, _, err = call("submit", "jobs.jsonl.gz")
    assert code == 2
    assert "jobs.jsonl.gz cannot be decompressed: it ends in the middle" in err


def test_a_file_that_is_not_there_is_told(call: Call):
    code, _, err = call("submit", "nothing.jsonl")
    assert code == 2
    assert "nothing.jsonl cannot be read: No such file" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("submit",), ("submit", "a.jsonl", "-p", "x"), ("submit", "a.jsonl", "--seed", "1"),
        ("submit", "-p", "x", "--deadline", "soon"), ("submit", "-p", "x", "--lane", "fast"),
        ("submit", "-p", "x", "--max-tokens", "0"), ("submit", "-p", "x", "--model", "No Model"),
        ("dead", "replay"), ("dead", "replay", "a", "--all"), ("dead", "list", "--category", "sad"), ("nothing",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_wrong_call_is_exit_code_2(call: Call, arguments: tuple[str, ...]):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert err


def test_the_input_cannot_be_the_output(call: Call, tmp_path: Path):
    (tmp_path / "jobs.jsonl").write_text('{"prompt":"a"}\n')
    code, _, err = call("run", "jobs.jsonl", "-o", "jobs.jsonl")
    assert code == 2
    assert "is the input" in err
    assert (tmp_path / "jobs.jsonl").read_text() == '{"prompt":"a"}\n'


def test_a_model_that_nobody_has_is_told_before_the_start(call: Call, tmp_path: Path):
    (tmp_path / "jobs.jsonl").write_text('{"prompt":"a","model":"no-such"}\n')
    for arguments in (("up", "--model", "no-such"), ("run", "jobs.jsonl", "-o", "out.jsonl")):
        code, _, err = call(*arguments)
        assert code == 2
        assert "'no-such'" in err
        assert "headrace models pull" in err


def test_an_empty_file_is_done_at_once(call: Call, tmp_path: Path):
    (tmp_path / "jobs.jsonl").write_text("\n\n")
    assert call("run", "jobs.jsonl", "-o", "out.jsonl", "--json")[0] == 0
    assert call("submit", "jobs.jsonl")[0] == 0


def test_the_contract_is_written(call: Call, tmp_path: Path):
    code, out, _ = call("schema", "export", "contract")
    assert code == 0
    assert "contract/asyncapi.json" in out.splitlines()
    assert all((tmp_path / line).is_file() for line in out.splitlines())


@pytest.mark.parametrize("here", [True, False], ids=["here", "not pulled"])
def test_an_embedder_is_no_model_to_serve(call: Call, tmp_path: Path, here: bool):
    """One that lies here, and one that could be pulled: neither is started, nor fetched for it."""
    name = "all-minilm-l6-v2"
    if here:
        make_hash_embedder(tmp_path / ".headrace", "mine")
        name = "mine"
    (tmp_path / "jobs.jsonl").write_text(f'{{"prompt":"a","model":"{name}"}}\n')
    for arguments in (("up", "--model", name), ("run", "jobs.jsonl", "-o", "out.jsonl")):
        code, _, err = call(*arguments)
        assert code == 2
        assert f"{name} is an embedder" in err
        assert "headrace models pull` gets smollm2-135m-instruct, " in err
    assert not (tmp_path / ".headrace" / "models" / "all-minilm-l6-v2").exists()


def test_a_worker_refuses_to_hold_an_embedder(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_hash_embedder(tmp_path / ".headrace")
    for name, value in {"REDIS": "redis://localhost:1", "KAFKA": "k:1", "LEDGER": "sqlite:///l.db"}.items():
        monkeypatch.setenv(f"HEADRACE_{name}", value)
    assert call("ledger", "migrate")[0] == 0
    code, _, err = call("worker", "--role", "generate", "--model", "hash")
    assert code == 2
    assert "hash is an embedder: it turns texts into vectors and answers no job" in err


def test_the_list_of_models_tells_their_kind(call: Call, tmp_path: Path):
    """For people and as JSON."""
    make_echo_model(tmp_path / ".headrace")
    make_hash_embedder(tmp_path / ".headrace")
    code, out, _ = call("models", "list")
    assert code == 0
    assert "generator" in out
    assert "embedder" in out
    _, out, _ = call("models", "list", "--json")
    assert [(card["alias"], card["kind"]) for card in map(json.loads, out.splitlines())] == [
        ("echo", "generator"), ("hash", "embedder"),
    ]  # fmt: skip


def test_no_models_is_no_failure(call: Call):
    code, out, err = call("models", "list")
    assert (code, out) == (0, "")
    assert "headrace models pull" in err


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    (tmp_path / ".headrace").mkdir()
    found = Ledger.at(sqlite_tables(tmp_path / ".headrace" / "ledger.db"))
    burials = [
        Burial(
            id=job_id(90 + n), job_id=None, refers_to=job_id(n), tenant="default",
            category=Category.INVALID, reason="no such model", stage="ingest",
            attempts=0, topic=Topic.GENERATION, value=b'{"prompt":"a"}', headers={"ce_id": "x"},
        )
        for n in (1, 2)
    ]  # fmt: skip
    found.ingest([], burials)
    return found


def test_the_ledger_of_a_stopped_stack_can_be_read(call: Call, ledger: Ledger):
    code, out, _ = call("dead", "list", "--json", "--since", "10m")
    assert code == 0
    assert {json.loads(line)["refers_to"] for line in out.splitlines()} == {job_id(1), job_id(2)}
    assert call("dead", "list", "--until", "1h")[2] == "no dead letters\n"
    assert len(call("dead", "list", "--json", "--stage", "ingest")[1].splitlines()) == 2
    for other in (("--stage", "deliver"), ("--tenant", "acme")):
        assert call("dead", "list", *other)[2] == "no dead letters\n"
    code, out, _ = call("dead", "list", job_id(1))
    assert code == 0
    assert '{"prompt":"a"}' in out
    status = json.loads(call("status", "--json")[1])
    assert (status["dead_letters"], status["embedded"]) == (2, None)


def test_a_refused_job_has_a_status_too(call: Call, ledger: Ledger):
    code, _, err = call("status", job_id(1))
    assert code == 1
    assert "no such model" in err
    assert "knows no such job" in call("status", job_id(7))[2]


def test_the_dead_are_replayed_by_id_or_all(call: Call, ledger: Ledger):
    for other in (("--stage", "deliver"), ("--tenant", "acme")):
        assert call("dead", "replay", *other)[2] == "0 replayed\n"
    assert call("dead", "replay", job_id(1))[0] == 0
    assert [row.record.key for row in ledger.outbox(10) if row.record.topic is Topic.GENERATION] == [job_id(1)]
    code, out, _ = call("dead", "replay", "--category", "invalid", "--json")
    assert (code, json.loads(out)) == (0, {"replayed": 1, "truncated": 0})
    assert call("dead", "replay", "--all")[0] == 1
    assert call("dead", "replay", job_id(7))[0] == 1


def test_lists_of_commands_import_no_command():
    """Help, and the completion of a shell, list each command with the first paragraph of its help."""
    code = (
        "import sys, headrace_workers.wiring.command_line as line\n"
        "line.run(['--help'])\n"
        "def walk(group, *words):\n"
        "    for name, command in group.commands.items():\n"
        "        if hasattr(command, 'commands'):\n"
        "            assert line.run([*words, name, '--help']) == 0\n"
        "            walk(command, *words, name)\n"
        "        else:\n"
        "            LISTED[(*words, name)] = command.help\n"
        "            MODULES.append(command.target.partition(':')[0])\n"
        "LISTED, MODULES = {}, ['sqlalchemy', 'kafka', 'celery', 'ctranslate2', 'numpy', 'phonenumbers', 'stdnum']\n"
        "walk(line._command())\n"
        "print(repr((LISTED, [name for name in MODULES if name in sys.modules])))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    listed, loaded = ast.literal_eval(done.stdout.splitlines()[-1])
    assert loaded == []
    assert set(listed) == set(commands())
    for words, text in listed.items():
        command = all_commands()
        for word in words:
            command = command.commands[word]
        assert text == command.help.split("\n\n")[0] != ""


def test_a_ledger_that_is_not_there_is_not_made(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A slip in its name is told; an empty file would look like a ledger with nothing in it."""
    monkeypatch.setenv("HEADRACE_LEDGER", f"sqlite:///{tmp_path}/slip.db")
    code, _, err = call("status")
    assert code == 2
    assert f"there is no ledger at {tmp_path}/slip.db" in err
    assert not (tmp_path / "slip.db").exists()


@pytest.mark.parametrize("arguments", [("up", "--model", "echo"), ("worker", "--role", "judge")], ids=" ".join)
def test_a_redis_that_is_no_url_is_told_by_its_variable(call: Call, tmp_path, monkeypatch, arguments):
    make_echo_model(tmp_path / ".headrace")
    for name, value in {"REDIS": "pass@word", "KAFKA": "k:1", "LEDGER": "sqlite:///l.db"}.items():
        monkeypatch.setenv(f"HEADRACE_{name}", value)
    code, _, err = call(*arguments)
    assert code == 2
    assert "HEADRACE_REDIS is no URL of a Redis" in err
    assert "pass@word" not in err


def test_a_source_that_is_nothing_is_told_as_that(call: Call):
    """Before anybody is asked to install what would be needed to convert it."""
    code, _, err = call("models", "convert", "no-such")
    assert code == 2
    assert "no-such is neither a folder, a .gguf file nor a hub id" in err


@pytest.mark.parametrize("option", ["--cache", "--without-passages", "--lane"])
def test_a_choice_that_is_none_is_told_with_those_that_are(call: Call, option: str):
    code, _, err = call("submit", "--prompt", "x", option, "foo")
    assert code == 2
    assert f"Invalid value for '{option}': 'foo' is not one of '" in " ".join(err.split())


def test_a_wrong_role_is_told_before_anything_is_needed(call: Call):
    code, _, err = call("worker", "--role", "cook")
    assert code == 2
    assert "--role is 'cook'; it may be recall, moderate, generate, judge" in err

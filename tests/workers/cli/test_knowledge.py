import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.services.interrupts import hear_interrupts
from tests.workers.features.knowledge.pdfs import pdf

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.knowledge.store.documents import FIRST, KnowledgeBases
from headrace_workers.models.embedders.hashed import make_hash_embedder

WIDEST = 100


@pytest.fixture
def home(tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, call) -> Path:
    """A folder with an embedder without weights, and documents."""
    make_hash_embedder(tmp_path / ".headrace")
    monkeypatch.setenv("HEADRACE_EMBEDDER", "hash")
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "mill.md").write_text("# Mills\n\nA mill by the river.\n\n## Wheels\n\nThey turn [slowly].\n")
    (docs / "clock.txt").write_text("A clock in the hall strikes at noon.\n")
    return tmp_path


def rows(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def test_documents_are_added_and_unchanged_ones_cost_nothing(call, home):
    assert call("knowledge", "add", "k", "docs") == (0, "", "k: 2 added; 3 chunks written\n")
    assert call("knowledge", "add", "k", "docs", "docs") == (0, "", "k: 4 unchanged; 0 chunks written\n")
    (home / "docs" / "clock.txt").write_text("A clock in the tower.\n")
    code, out, said = call("knowledge", "add", "k", "docs", "--json")
    assert (code, said) == (0, "k: 1 replaced, 1 unchanged; 1 chunk written\n")
    assert rows(out) == [
        {"document": "docs/clock.txt", "status": "replaced", "chunks": 1, "reason": None},
        {"document": "docs/mill.md", "status": "unchanged", "chunks": 0, "reason": None},
    ]


def test_what_is_refused_is_named_and_the_rest_is_in(call, home):
    (home / "docs" / "blank.md").write_text(" ")
    code, _, said = call("knowledge", "add", "k", "docs", "elsewhere")
    assert code == 1
    assert said.splitlines() == [
        "refused: elsewhere: there is no such file or folder, and no file that it stands for",
        "refused: docs/blank.md: it holds no text",
        "k: 2 added, 2 refused; 3 chunks written",
    ]
    _, out, _ = call("knowledge", "add", "k", "docs", "elsewhere", "--json")
    assert [(row["document"], row["reason"]) for row in rows(out) if row["status"] == "refused"] == [
        ("elsewhere", said.splitlines()[0].removeprefix("refused: ")),
        ("docs/blank.md", "docs/blank.md: it holds no text"),
    ]
    (home / "docs" / "blank.md").unlink()
    assert call("knowledge", "add", "k", "docs", "elsewhere")[0] == 1
    assert call("knowledge", "add", "k", "docs")[0] == 0


def test_what_is_no_document_stops_no_other(call, home):
    for name, data in {
        "empty.pdf": b"",
        "secret.pdf": pdf(["text"], password="open sesame"),
        "binary.txt": b"\x7fELF\0\1\2",
        "book.pdf": pdf(["Mills grind.", "Clocks strike.", "Bridges carry roads."]),
    }.items():
        (home / "docs" / name).write_bytes(data)
    code, out, _ = call("knowledge", "add", "k", "docs", "--json")
    assert code == 1
    refused = {row["document"]: row["reason"] for row in rows(out) if row["status"] == "refused"}
    assert refused.keys() == {"docs/empty.pdf", "docs/secret.pdf", "docs/binary.txt"}
    for name, reason in (("empty.pdf", "it is empty"), ("secret.pdf", "encrypted"), ("binary.txt", "binary file")):
        assert reason in refused[f"docs/{name}"]
    _, out, _ = call("knowledge", "search", "k", "bridges", "-k", "1", "--json")
    assert [row["document"] for row in rows(out)] == ["docs/book.pdf"]


def test_bases_are_listed(call, home):
    assert call("knowledge", "list") == (0, "", "no knowledge bases: `headrace knowledge add NAME PATH` makes one\n")
    call("knowledge", "add", "k", "docs")
    call("knowledge", "add", "k", "docs/clock.txt", "--tenant", "acme")
    _, out, _ = call("knowledge", "list", "--json")
    assert [(row["tenant"], row["knowledge"], row["documents"], row["chunks"]) for row in rows(out)] == [
        ("acme", "k", 1, 1), ("default", "k", 2, 3),
    ]  # fmt: skip
    _, out, _ = call("knowledge", "list", "--tenant", "acme")
    assert ("acme" in out, "default" in out, "hash/none" in out) == (True, False, True)
    assert max(map(len, out.splitlines())) <= WIDEST


def test_a_bases_documents_are_shown(call, home):
    call("knowledge", "add", "k", "docs")
    code, out, said = call("knowledge", "list", "k", "--json")
    assert (code, said) == (0, "")
    assert [(row["document"], row["chunks"], row["bytes"], row["format"]) for row in rows(out)] == [
        ("docs/clock.txt", 1, 37, "underlined"), ("docs/mill.md", 2, 62, "markdown"),
    ]  # fmt: skip
    _, out, said = call("knowledge", "list", "k", "-n", "1")
    assert ("docs/clock.txt" in out, "docs/mill.md" in out) == (True, False)
    assert said == "k: 2 documents, 3 chunks, 99 bytes\nonly the first 1 are shown: --limit shows more\n"


def test_passages_are_found(call, home):
    call("knowledge", "add", "k", "docs")
    code, out, said = call("knowledge", "search", "k", "do wheels turn slowly?", "--json")
    assert (code, said) == (0, "")
    best = rows(out)[0]
    assert (best["rank"], best["document"], best["section"]) == (1, "docs/mill.md", "Mills > Wheels")
    assert best["text"] == (home / "docs" / "mill.md").read_text()[slice(*best["span"])]
    assert best["words"]["rank"] == best["vectors"]["rank"] == 1
    assert rows(out)[-1]["words"] is None
    code, out, _ = call("knowledge", "search", "k", "do wheels turn slowly?", "-k", "1")
    assert ("[slowly]" in out, "clock" in out) == (True, False)
    assert max(map(len, out.splitlines())) <= WIDEST


def test_each_floor_is_shown_with_what_it_lets_through_and_loses(call, home, monkeypatch):
    call("knowledge", "add", "k", "docs")
    (home / "real.txt").write_text('A mill by the river.\n\n{"question": "A clock in the hall strikes at noon."}\n')
    (home / "foreign.txt").write_text("Zebras gallop eastward\nA mill by the river.\n")
    code, out, said = call("bench", "floor", "k", "--questions", "real.txt", "--foreign", "foreign.txt", "--json")
    found = json.loads(out)
    assert (code, found["passages"], found["foreign"], found["questions"], found["set"]) == (0, 3, 2, 2, None)
    assert found["fitting"] in {floor["floor"] for floor in found["floors"]}
    assert [floor["let_through"] for floor in found["floors"]] == [0.5] * len(found["floors"])
    assert [floor["lost"] for floor in found["floors"]] == [0.0] * len(found["floors"])
    monkeypatch.setenv("HEADRACE_RELEVANCE", "0.99")
    code, out, said = call("bench", "floor", "k", "--questions", "foreign.txt")
    assert code == 0
    assert "HEADRACE_RELEVANCE sets 0.99 for all bases: that is used" in said
    assert [line for line in out.splitlines() if "0.99" in line and "100.0%" in line]


@pytest.mark.parametrize(
    ("text", "reason"),
    [("\n", "has no question"), ('{"asked": "x"}\n', "q.txt:1: it is no JSON object with `question`"),
     ('{"question": 3}\n', "q.txt:1: `question` is not a text")],
)  # fmt: skip
def test_a_file_without_questions_is_refused(call, home, text, reason):
    call("knowledge", "add", "k", "docs")
    (home / "q.txt").write_text(text)
    code, _, said = call("bench", "floor", "k", "--questions", "q.txt")
    assert code != 0
    assert reason in said
    assert call("bench", "floor", "none")[0] == 1


def test_a_query_may_be_long_and_not_empty(call, home):
    call("knowledge", "add", "k", "docs")
    _, out, _ = call("knowledge", "search", "k", "mill " * 20_000, "-k", "1", "--json")
    assert rows(out)[0]["section"] == "Mills"
    assert call("knowledge", "search", "k", " ")[0] == 2
    assert call("knowledge", "search", "k", "x" * 200_001)[0] == 2


def test_tenants_are_apart(call, home, monkeypatch):
    call("knowledge", "add", "k", "docs", "--tenant", "acme")
    for command in (["list", "k"], ["search", "k", "mill"], ["remove", "k", "--yes"]):
        code, out, said = call("knowledge", *command)
        assert (code, out) == (1, "")
        assert said.startswith("default has no knowledge base 'k'")
    monkeypatch.setenv("HEADRACE_TENANT", "acme")
    assert call("knowledge", "search", "k", "mill")[0] == 0


def test_an_empty_tenant_is_none_and_not_the_usual_one(call, home):
    """A variable of a script that was not set must not lead to somebody's base, least of all to its end."""
    call("knowledge", "add", "k", "docs")
    for command in (["add", "k", "docs"], ["list", "k"], ["search", "k", "mill"], ["remove", "k", "--yes"]):
        code, out, said = call("knowledge", *command, "--tenant", "")
        assert (code, out) == (2, "")
        assert "'' cannot name a tenant" in said
    assert len(rows(call("knowledge", "list", "k", "--json")[1])) == 2


def test_vectors_of_another_embedder_are_told_of(call, home, monkeypatch):
    call("knowledge", "add", "k", "docs")
    make_hash_embedder(home / ".headrace", "other")
    monkeypatch.setenv("HEADRACE_EMBEDDER", "other")
    code, _, said = call("knowledge", "search", "k", "mill")
    assert (code, "3 of 3 passages were embedded by another than other/none/" in said) == (0, True)
    assert call("knowledge", "search", "k", "zebra") == (1, "", said + "nothing was found\n")
    call("knowledge", "add", "k", "docs/mill.md")
    assert "2 embedders" in call("knowledge", "list")[1]
    call("knowledge", "add", "k", "docs")
    assert call("knowledge", "search", "k", "mill")[2] == ""


def test_documents_are_removed(call, home, ledger):
    call("knowledge", "add", "k", "docs")
    code, out, said = call("knowledge", "remove", "k", "docs/mill.md", "docs/none.md", "--yes", "--json")
    assert (code, out) == (1, '{"removed": 1}\n')
    assert said.startswith("docs/none.md: k has no document of this name")
    assert [row.name for row in ledger.of(KnowledgeBases).documents("default", "k", "", 9)] == ["docs/clock.txt"]
    assert call("knowledge", "remove", "k", "--yes") == (0, "", "1 removed\n")
    assert ledger.of(KnowledgeBases).chunks("default", "k", FIRST, 9) == []
    assert call("knowledge", "remove", "k", "--yes")[0] == 1


def test_removing_asks_first(call, home, ledger, monkeypatch):
    call("knowledge", "add", "k", "docs")
    code, _, said = call("knowledge", "remove", "k")
    assert (code, "confirm with --yes" in said) == (2, True)
    for answer, code, left in (("n\n", 1, 2), ("y\n", 0, 0)):
        leader, follower = pty.openpty()
        os.write(leader, answer.encode())
        with os.fdopen(follower) as terminal:
            monkeypatch.setattr(sys, "stdin", terminal)
            got, _, said = call("knowledge", "remove", "k")
        os.close(leader)
        assert (got, "docs/clock.txt, docs/mill.md" in said) == (code, True)
        assert len(ledger.of(KnowledgeBases).documents("default", "k", "", 9)) == left


@pytest.mark.parametrize("words", [["add", "My Base", "docs"], ["add", "k", "docs", "--tenant", "a b"], ["list", "ü"]])
def test_names_that_are_none_are_refused(call, home, words):
    code, out, said = call("knowledge", *words)
    assert (code, out) == (2, "")
    assert "1 to 64 of" in said


def test_without_an_embedder_the_way_to_one_is_named(call, home, monkeypatch):
    monkeypatch.delenv("HEADRACE_EMBEDDER")
    code, _, said = call("knowledge", "add", "k", "docs")
    assert (code, "`headrace models pull all-minilm-l6-v2` gets one" in said) == (2, True)
    assert "no knowledge bases" in call("knowledge", "list")[2]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_an_interrupted_add_goes_on(call, home, ledger, number, code):
    for n in range(200):
        (home / "docs" / f"{n}.md").write_text(f"# Mill {n}\n\nIt turns {n} times.\n")
    command = [sys.executable, "-m", "headrace_workers", "knowledge", "add", "k", "docs", "--json"]
    with subprocess.Popen(
        command,
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_interrupts,  # noqa: PLW1509 - it takes no lock
    ) as process:
        assert process.stdout is not None
        # Less than it has to say: it is at work until it is read.
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4_096)
        process.stdout.readline()
        process.send_signal(number)
        _, said = process.communicate()
    assert process.returncode == code, said
    assert ("interrupted: " in said) is (number == signal.SIGINT)
    before = {row.name: row.added_at for row in ledger.of(KnowledgeBases).documents("default", "k", "", 999)}
    assert 1 <= len(before) < 202
    ended, _, said = call("knowledge", "add", "k", "docs", "--json")
    assert (ended, f"{len(before)} unchanged" in said) == (0, True)
    after = {row.name: row.added_at for row in ledger.of(KnowledgeBases).documents("default", "k", "", 999)}
    assert len(after) == 202
    assert before.items() <= after.items()


def test_questions_are_found_by_meaning(call, home, minilm_home, monkeypatch):
    monkeypatch.setenv("HEADRACE_EMBEDDER", "all-minilm-l6-v2")
    (home / ".headrace" / "models").rename(home / "models")
    (home / ".headrace" / "models").symlink_to(minilm_home / "models")
    assert call("knowledge", "add", "k", "docs")[0] == 0
    _, out, _ = call("knowledge", "search", "k", "When does midday ring?", "--json")
    best = rows(out)[0]
    assert (best["document"], best["words"]) == ("docs/clock.txt", None)
    assert best["vectors"]["rank"] == 1


def test_documents_have_attributes_and_are_searched_by_them(call, home):
    (home / "docs" / "mill.md").write_text("---\nyear: 1976\ntags: [old]\n---\n# Mills\n\nA mill by the river.\n")
    code, _, said = call("knowledge", "add", "k", "docs", "--meta", "language=en", "--meta", 'version="3.13"')
    assert code == 0
    assert said.splitlines() == [
        "passed over in front matter: tags (1); attributes are texts up to 512 characters, numbers, true and false, "
        "and 16 of a document",
        "k: 2 added; 3 chunks written",
    ]
    _, out, _ = call("knowledge", "list", "k", "--json")
    assert [row["attributes"] for row in rows(out)] == [
        {"language": "en", "version": "3.13"}, {"language": "en", "version": "3.13", "year": 1976},
    ]  # fmt: skip
    _, out, _ = call("knowledge", "list", "k")
    assert "year=1976" in out
    assert 'version="3.13"' in out
    assert max(map(len, out.splitlines())) <= WIDEST

    def found(*where):
        code, out, _ = call(
            "knowledge", "search", "k", "river clock", "--json", *(part for item in where for part in ("--where", item))
        )
        return sorted({row["document"] for row in rows(out)}), code

    assert found("year>=1976") == (["docs/mill.md"], 0)
    assert found("year!=1976") == (["docs/clock.txt"], 0)
    assert found("language=en") == (["docs/clock.txt", "docs/mill.md"], 0)
    assert found("language=en", "year<1976") == ([], 1)
    assert found("version=3.13") == ([], 1)  # the number
    assert found('version="3.13"', '{"type": "in", "key": "year", "value": [1976, 1977]}') == (["docs/mill.md"], 0)
    assert call("knowledge", "add", "k", "docs")[2].splitlines()[-1] == "k: 2 described; 0 chunks written"
    assert found("language=en") == ([], 1)


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        (
            ("--where", "year"),
            "--where 'year' has no comparison: write KEY=VALUE (or != < <= > >=), or a filter as JSON",
        ),
        (("--where", "{]"), "--where begins like JSON, but is not JSON"),
        (("--where", '{"type": "not"}'), "--where: knowledge_filter.type: must be one of 'eq'"),
        (("--where", "=5"), "has no comparison"),
    ],
)
def test_what_is_no_filter_is_refused(call, home, option, reason):
    call("knowledge", "add", "k", "docs")
    code, out, said = call("knowledge", "search", "k", "mill", *option)
    assert (code, out) == (2, "")
    assert reason in said


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        (["year"], "--meta 'year' has no value: write KEY=VALUE"),
        (["year=1", "year=2"], "--meta names 'year' twice"),
        (["=1"], "--meta: attributes: a key is empty"),
        (["k=" + "v" * 513], "has more than 512 characters"),
        ([f"k{n}={n}" for n in range(17)], "--meta: attributes: at most 16 attributes"),
    ],
)
def test_what_can_be_no_attribute_is_refused(call, home, meta, reason):
    code, _, said = call("knowledge", "add", "k", "docs", *(part for item in meta for part in ("--meta", item)))
    assert code == 2
    assert reason in said
    assert call("knowledge", "list")[2].startswith("no knowledge bases")


def test_what_stands_behind_an_attribute_is_what_json_says(call, home):
    given = ["a=5", "b=2.5", "c=true", "d=NaN", "e=2026-01-31", "f=007", "g= x=y ", "h=", 'i="5"', "j=[1]", "k=null"]
    call("knowledge", "add", "k", "docs/clock.txt", *(part for text in given for part in ("--meta", text)))
    _, out, _ = call("knowledge", "list", "k", "--json")
    assert rows(out)[0]["attributes"] == {
        "a": 5, "b": 2.5, "c": True, "d": "NaN", "e": "2026-01-31", "f": "007", "g": "x=y", "h": "", "i": "5",
        "j": "[1]", "k": "null",
    }  # fmt: skip

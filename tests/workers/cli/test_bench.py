"""Measuring the cache and a knowledge base on one's own questions, as the command line tells it."""

import json
from pathlib import Path

import pytest

from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.models.embedders.hashed import make_hash_embedder
from headrace_workers.models.engines.echo import make_echo_model
from headrace_workers.models.verifiers.measured import refuse_chance
from headrace_workers.models.verifiers.verifier import Relation

PAIRS = [
    {"question": "How long do 2 eggs boil?", "other": "How long do 2 eggs boil, please?", "same": True},
    {"question": "How long do 2 eggs boil?", "other": "How long do 3 eggs boil?", "same": False},
    {"query": "Where is the [mill]?", "cached": "Where is the [mill]?", "is_duplicate": 1},
    {"question1": "Is the ferry late today?", "question2": "Is the ferry late today, then?", "label": "no"},
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call) -> Path:
    """A folder with an embedder without weights, and pairs of questions."""
    make_hash_embedder(tmp_path / ".headrace")
    monkeypatch.setenv("HEADRACE_EMBEDDER", "hash")
    monkeypatch.setenv("HEADRACE_SIMILARITY", "0.75")
    write(tmp_path / "pairs.jsonl", PAIRS)
    return tmp_path


@pytest.fixture
def base(ledger: Ledger, home: Path, call) -> Path:
    docs = home / "docs"
    docs.mkdir()
    (docs / "mill.md").write_text("# Mills\n\nA mill by the river.\n\n## Wheels\n\nThey turn [slowly].\n")
    (docs / "clock.txt").write_text("A clock in the hall strikes at noon.\n")
    assert call("knowledge", "add", "k", "docs")[0] == 0
    return home


def write(path: Path, lines: list[dict]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_pairs_are_measured_at_each_threshold(call, home):
    code, out, _ = call("bench", "cache", "pairs.jsonl", "--json")
    found = json.loads(out)
    assert (code, found["pairs"], found["same"], found["threshold"]) == (0, 4, 2, 0.75)
    at = {served["threshold"]: served for served in found["thresholds"]}
    assert (at[0.75]["served"], at[0.75]["wrong"], at[0.75]["hit_share"]) == (3, 1, 1.0)
    assert at[0.75]["wrong_of_served_at_most_of_all_thresholds"] > at[0.75]["wrong_of_served_at_most"] > 1 / 3
    assert [(pair["line"], pair["refused"]) for pair in found["served_wrongly"]] == [(4, None)]
    assert found["refused_wrongly"] == []
    assert found["lowest_threshold_shown"] is None


def test_the_table_fits_and_says_what_is_not_shown(call, home):
    code, out, said = call("bench", "cache", "pairs.jsonl")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 100
    assert "0.75" in out
    assert "at 0.75 1 of the pairs are served wrongly" in said
    assert "no threshold shows" in said


def test_lines_that_are_wrong_are_named(call, home):
    (home / "wrong.jsonl").write_text(
        '{"question": "a", "other": "b", "same": true}\n'
        "\n"
        '{"question": "a", "other": "b"}\n'
        '{"question": "a", "other": "b", "same": "perhaps"}\n'
        '{"question": " ", "other": "b", "same": true}\n'
        '{"question": "a", "query": "a", "other": "b", "same": true}\n'
        "[1]\n"
        "{\n"
    )
    code, out, said = call("bench", "cache", "wrong.jsonl")
    assert (code, out) == (2, "")
    assert said.splitlines() == [
        "headrace: 6 lines are wrong, and nothing was measured:",
        "wrong.jsonl:3: it lacks `same` (or `is_duplicate`, `duplicate`, `label`); it has `question`, `other`",
        'wrong.jsonl:4: `same` is "perhaps"; it must be true or false',
        'wrong.jsonl:5: `question` is " "; it must be a text, and not empty',
        "wrong.jsonl:6: it has both `question` and `query`, which mean the same: give one",
        'wrong.jsonl:7: it must be a JSON object, such as {"question": …}',
        "wrong.jsonl:8: it is no JSON: Expecting property name enclosed in double quotes at character 3",
    ]
    (home / "empty.jsonl").write_text("\n")
    assert call("bench", "cache", "empty.jsonl")[2] == (
        "headrace: empty.jsonl has no lines: there is nothing to measure\n"
    )
    assert call("bench", "cache", "absent.jsonl")[2] == (
        "headrace: absent.jsonl cannot be read: No such file or directory\n"
    )


def test_a_knowledge_base_is_measured_by_each_leg(call, base):
    write(base / "asked.jsonl", [
        {"question": "Do wheels turn slowly?", "documents": ["docs/mill.md#Wheels"]},
        {"question": "noon", "documents": "docs/clock.txt"},
    ])  # fmt: skip
    code, out, _ = call("bench", "retrieval", "k", "asked.jsonl", "--json")
    found = json.loads(out)
    assert (code, found["questions"], found["passages"], found["missed"]) == (0, 2, 3, [])
    legs = {item["leg"]: item for item in found["ranked_by"]}
    assert list(legs) == ["words", "vectors", "fused"]
    assert (legs["fused"]["mrr"], legs["words"]["recall"]["1"]) == (1.0, 1.0)
    assert found["floors"][0]["right_kept"] == 1.0
    assert found["queries_a_second"] > 0
    code, out, said = call("bench", "retrieval", "k", "asked.jsonl", "--html", "report.html")
    assert (code, max(map(len, out.splitlines())) <= 100) == (0, True)
    assert "queries/s" in said
    assert (base / "report.html").read_text().count("<svg") == 2
    code, _, said = call("bench", "retrieval", "k", "asked.jsonl", "--html", "nowhere/report.html")
    assert (code, said) == (
        2, "headrace: nowhere/report.html cannot be written: name a file in a folder that exists\n",
    )  # fmt: skip


def test_what_is_not_found_is_listed(call, base):
    for number in range(12):
        (base / "docs" / f"{number:02}.txt").write_text(f"The clock strikes {number}, and the clock strikes again.\n")
    call("knowledge", "add", "k", "docs")
    write(base / "asked.jsonl", [{"question": "the clock strikes", "documents": ["docs/mill.md"]}])
    found = json.loads(call("bench", "retrieval", "k", "asked.jsonl", "--json")[1])
    (missed,) = found["missed"]
    assert (missed["line"], missed["right"]) == (1, ["docs/mill.md"])
    assert missed["places"]["fused"] > 10
    _, out, _ = call("bench", "retrieval", "k", "asked.jsonl")
    assert "nothing right among the first ten: 1 of 1" in out


def test_what_is_not_in_the_base_is_named(call, base):
    write(base / "asked.jsonl", [
        {"question": "a", "documents": ["docs/mill.md", "docs/nile.md"]},
        {"question": "b", "right": ["docs/mill.md#Sails"]},
        {"question": "c", "documents": []},
    ])  # fmt: skip
    assert call("bench", "retrieval", "k", "asked.jsonl")[2].splitlines()[1:] == [
        "asked.jsonl:3: `documents` is []; it must be a document's name, or a list of such, and not empty"
    ]
    write(base / "asked.jsonl", [
        {"question": "a", "documents": ["docs/mill.md", "docs/nile.md"]},
        {"question": "b", "right": ["docs/mill.md#Sails"]},
    ])  # fmt: skip
    code, out, said = call("bench", "retrieval", "k", "asked.jsonl")
    assert (code, out) == (2, "")
    assert said.splitlines()[1:] == [
        "asked.jsonl:1: the base has no document 'docs/nile.md': `headrace knowledge list` names them",
        "asked.jsonl:2: 'docs/mill.md' has no section 'Sails'; it has 'Mills', 'Mills > Wheels'",
    ]
    code, _, said = call("bench", "retrieval", "other", "asked.jsonl")
    assert (code, "default has no knowledge base 'other'" in said) == (1, True)


def test_a_verifier_that_is_no_better_than_chance_is_refused_from_then_on(call, home):
    make_echo_model(home / ".headrace")
    code, out, err = call("bench", "cache", "pairs.jsonl", "--verify", "echo", "--json")
    assert (code, json.loads(out)["is_chance"], "echo is refused as a verifier" in err) == (1, True, True)
    claims = [
        {"evidence": "The mill opens at 9.", "claim": f"The mill opens at {n}.", "supported": n == 9} for n in (9, 17)
    ]
    write(home / "claims.jsonl", claims)
    assert call("bench", "groundedness", "claims.jsonl", "--verify", "echo")[0] == 1
    for relation in (Relation.SAME_QUESTION, Relation.SUPPORTED):
        with pytest.raises(ConfigurationError, match="echo was measured as a verifier"):
            refuse_chance(home / ".headrace", "echo", relation)


def test_the_rules_of_grounded_are_measured_on_ones_own_sentences(call, home):
    claims = [
        {"context": f"The mill {n} opens at {n}.", "claim": f"The mill {n} opens at {told}.", "label": told == n}
        for n in range(20, 30)
        for told in (n, n + 50)
    ]
    write(home / "claims.jsonl", claims)
    code, out, _ = call("bench", "groundedness", "claims.jsonl", "--json")
    found = json.loads(out)
    assert (code, found["verifier"], found["relation"], found["auroc"]) == (0, "the rules", "supported", 1.0)
    assert not (home / ".headrace" / "verifiers.json").exists()

import io
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from tests.workers.features.moderation.heads import examples
from tests.workers.ledger_jobs import take_in
from tests.workers.runtime.bridge.records import generation, moderation

from headrace_schemas import Answer, ModerationVerdict, Result, Usage
from headrace_schemas.codec import encode_value
from headrace_schemas.limits import MAX_TEXT
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS
from headrace_workers.models.embedders.hashed import make_hash_embedder
from headrace_workers.wiring.command_line import run


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run(["moderation", *arguments, "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "policy.toml"
    (tmp_path / "list.txt").write_text("falcon\n")
    file.write_text('blocklist = "list.txt"\n[tenants.shop.categories]\nblocklist = "allow"\n')
    monkeypatch.setenv("HEADRACE_POLICY", str(file))
    return file


def test_a_text_is_checked_wherever_it_comes_from(policy, tmp_path, capsys, monkeypatch) -> None:
    text = "The falcon flies. Write to ann@headrace.io."
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    answers = [told(capsys, "check", given) for given in (text, str(tmp_path / "text.txt"), "-")]
    assert answers[0] == answers[1] == answers[2]
    assert (answers[0]["action"], answers[0]["text"]) == ("block", None)
    found = {name for name, is_found in answers[0]["categories"].items() if is_found}
    assert found == {"blocklist", "personal_data"}
    assert "violence" in answers[0]["not_covered"]
    shop = told(capsys, "check", text, "--tenant", "shop")
    assert (shop["action"], shop["text"]) == ("redact", "The falcon flies. Write to [EMAIL].")


def test_a_person_sees_what_was_found_and_what_nobody_looked_for(policy, capsys) -> None:
    assert run(["moderation", "check", "re: falcon, ann@headrace.io"]) == 0
    out, err = capsys.readouterr()
    assert "ann@headrace.io" in out
    assert "personal_data" in out
    assert "not covered: harassment, " in err
    assert "block, by policy" in err


@pytest.mark.parametrize(
    ("data", "why"),
    [(b"a\xff", "is not UTF-8: byte 1"), (b"a" * (MAX_TEXT + 1), "more than 200,000 characters"),
     ("é".encode() * (3 * MAX_TEXT), "more than 200,000 characters")],
    ids=["no text", "too long", "much too long"],
)  # fmt: skip
def test_what_cannot_be_looked_at_is_said(tmp_path, capsys, data, why) -> None:
    (tmp_path / "text").write_bytes(data)
    assert run(["moderation", "check", str(tmp_path / "text")]) == 2
    assert why in capsys.readouterr().err


def test_a_text_may_be_no_files_name(capsys) -> None:
    """Too long for one, or with what none may hold."""
    assert told(capsys, "check", "a" * 5_000)["action"] == "allow"
    assert run(["moderation", "check", "a" * (MAX_TEXT + 1)]) == 2


def test_a_file_that_is_not_there_is_told(capsys) -> None:
    """Its name would pass moderation as a text, and its content was not looked at."""
    for name in ("answers/first.txt", "first.txt"):
        assert run(["moderation", "check", name]) == 0
        assert f"{name} is not a file here" in capsys.readouterr().err
    for text in ("ann@headrace.io", "Well.", "first. Second"):
        assert run(["moderation", "check", text]) == 0
        assert "is not a file here" not in capsys.readouterr().err
    assert run(["moderation", "check", "either/or is a question"]) == 0
    assert "no file" not in capsys.readouterr().err


def test_a_policy_is_checked_with_its_lists(policy, capsys) -> None:
    found = told(capsys, "check", "--policy", str(policy))
    assert found["categories"]["blocklist"]["action"] == "block"
    assert set(found["tenants"]) == {"shop"}
    policy.write_text('[categories]\nemail = "hide"\n')
    assert run(["moderation", "check", "--policy", str(policy)]) == 2
    assert "policy.toml, line 2: categories.email: unknown action 'hide'" in capsys.readouterr().err
    policy.write_text('blocklist = "list.txt"\n')
    policy.with_name("list.txt").write_text("ok\nre:(\n")
    assert run(["moderation", "check", "--policy", str(policy)]) == 2
    assert "list.txt, line 2: no RE2 regex" in capsys.readouterr().err
    policy.write_text('categories.email = { action = "block", detectors = 2 }\n')
    assert run(["moderation", "check", "--policy", str(policy)]) == 2
    assert "wants 2 detectors to agree on email" in capsys.readouterr().err


def test_a_head_is_trained_and_used(tmp_path, capsys, monkeypatch) -> None:
    make_hash_embedder(tmp_path, "hash")
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    monkeypatch.setenv("HEADRACE_EMBEDDER", "hash")
    data = tmp_path / "data.jsonl"
    rows = [*examples("a", 80, 80), *examples("b", 80, 80)]
    data.write_text("".join(f"{row.model_dump_json()}\n" for row in rows))
    made = told(capsys, "train", str(data), "-o", str(tmp_path / "head.safetensors"))
    assert made["categories"] == ["violence"]
    assert "hate" in made["left_out"]
    assert "unmeasured on outputs" in (tmp_path / "head.md").read_text()
    policy = tmp_path / "policy.toml"
    policy.write_text('head = "head.safetensors"\n')
    assert told(capsys, "check", "--policy", str(policy))["categories"]["violence"]["action"] == "review"
    assert told(capsys, "check", "smash burn crush", "--policy", str(policy))["action"] == "review"
    for wrong in (str(tmp_path / "head.bin"), str(tmp_path / "none" / "head.safetensors")):
        assert run(["moderation", "train", str(data), "-o", wrong]) == 2
    data.write_text("")
    assert run(["moderation", "train", str(data), "-o", str(tmp_path / "head.safetensors")]) == 2
    assert "have no examples" in capsys.readouterr().err


def receipt_of(ledger, job, categories, action, at) -> None:
    result = Result(job_id=job, tenant="default", status="completed", kind="moderation", accepted_at=datetime.now(UTC),
                    moderation=ModerationVerdict(action=action, categories=categories))  # fmt: skip
    with writing(ledger.engine) as tx:
        tx.execute(update(JOBS).where(JOBS.c.id == job).values(
            state="done", ended_at=at, terminal_type="headrace.result.v1", terminal=encode_value(result),
        ))  # fmt: skip


def test_what_was_said_is_counted_by_time_and_category(call, ledger) -> None:
    jobs = take_in(ledger, [moderation(input=str(n)) for n in range(4)] + [moderation(input="x", tenant="shop")])
    hour, now = 3_600_000, ledger.now()
    looked = {"hate": True, "violence": False}
    receipt_of(ledger, jobs[0], looked, "block", now - 1)
    receipt_of(ledger, jobs[1], {"violence": False}, "allow", now - 1)
    receipt_of(ledger, jobs[2], {"hate": False}, "redact", now - 49 * hour)
    receipt_of(ledger, jobs[4], looked, "block", now - 1)
    code, out, _ = call("moderation", "report", "--json")
    old, new = [json.loads(line) for line in out.splitlines()]
    assert (code, old["actions"], new["actions"]) == (0, {"redact": 1}, {"block": 2, "allow": 1})
    assert (new["looked_at"], new["objected_to"]) == ({"hate": 2, "violence": 3}, {"hate": 2})
    assert len(call("moderation", "report", "--since", "1h", "--json")[1].splitlines()) == 1
    (line,) = call("moderation", "report", "--tenant", "shop", "--by", "hour", "--json")[1].splitlines()
    assert (json.loads(line)["actions"], json.loads(line)["from"].endswith(":00Z")) == ({"block": 1}, True)
    table = call("moderation", "report")[1]
    assert "100.0%" in table
    assert call("moderation", "report", "--since", "0s")[2].startswith("moderation said nothing")


ANSWERS = (
    ("fine", "allow", False, "The heron stands."),
    ("released", "allow", True, "Write to ann@headrace.io."),
    ("redacted", "redact", True, "Write to [EMAIL]."),
    ("blocked", "block", True, None),
    ("new", "allow", False, "Project falcon is late."),
    ("told", "allow", False, "I was told: you are the clerk of a mill by the river."),
)


def answered(ledger, at) -> dict[str, str]:
    """Answers that were moderated, one of a job whose prompt was blocked, and one of another tenant; ids by names."""
    system = "You are the clerk of a mill by the river."
    turns = [{"role": "system", "content": system}, {"role": "user", "content": "Who?"}]
    names = [*(name for name, *_ in ANSWERS), "prompt", "elsewhere"]
    jobs = take_in(ledger, [
        generation(prompt=None, messages=turns, tenant="shop" if name == "elsewhere" else "default") for name in names
    ])  # fmt: skip
    ends = dict(zip(names, jobs, strict=True))
    for name, action, flagged, text in (*ANSWERS, ("elsewhere", "allow", False, "A falcon.")):
        moderation_ = ModerationVerdict(action=action, flagged=flagged, categories={"personal_data": flagged})
        answer = Answer(
            text="x",
            finish_reason="stop",
            model="m",
            quantization="q",
            usage=Usage(prompt_tokens=1, completion_tokens=1),
        ).with_text(text)
        _end(ledger, ends[name], at, moderation=moderation_, answer=answer)
    _end(ledger, ends["prompt"], at, status="blocked", refusal="prompt_blocked",
         moderation=ModerationVerdict(action="block"))  # fmt: skip
    return ends


def _end(ledger, job, at, **fields) -> None:
    given = {"job_id": job, "tenant": "default", "status": "completed", "kind": "generation"} | fields
    result = Result(accepted_at=datetime.now(UTC), **given)
    with writing(ledger.engine) as tx:
        tx.execute(update(JOBS).where(JOBS.c.id == job).values(
            state="done", ended_at=at, terminal_type="headrace.result.v1", terminal=encode_value(result),
        ))  # fmt: skip


def test_a_policy_is_tried_on_what_was_answered(call, ledger, policy) -> None:
    ends = answered(ledger, ledger.now() - 1)
    policy.write_text('blocklist = "list.txt"\nverbatim = 30\n[tenants.shop.categories]\nblocklist = "allow"\n')
    code, out, _ = call("moderation", "try", str(policy), "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["tried"], found["changed"], found["not_there"]) == (5, 3, {"redact": 1, "block": 1})
    moves = {
        (action["before"], action["now"]): (action["count"], set(action["examples"])) for action in found["actions"]
    }
    assert moves == {
        ("allow", "allow"): (2, set()),
        ("allow", "block"): (2, {ends["new"], ends["told"]}),
        ("released", "redact"): (1, {ends["released"]}),
    }
    assert found["categories"] == {
        "blocklist": {"before": 0, "now": 1},
        "personal_data": {"before": 1, "now": 1},
        "system_prompt_leak": {"before": 0, "now": 1},
    }
    _, table, said = call("moderation", "try", str(policy), "--on", "outputs", "--examples", "1")
    assert "falcon" not in table
    assert "originals are not kept: 2 (1 of action block, 1 of action redact)" in said
    assert "would change the outcome of 3 of 5; nothing was changed" in said
    assert json.loads(call("moderation", "try", str(policy), "--tenant", "shop", "--json")[1])["changed"] == 0
    assert json.loads(call("moderation", "try", str(policy), "-n", "1", "--json")[1])["tried"] <= 1
    assert "no text since 0s" in call("moderation", "try", str(policy), "--since", "0s")[2]


def test_a_policy_is_tried_on_texts_that_were_brought(call, ledger, policy) -> None:
    jobs = take_in(ledger, [moderation(input="A falcon."), moderation(input="A heron.")])
    for job in jobs:
        receipt_of(ledger, job, {"blocklist": True}, "block", ledger.now() - 1)
    found = json.loads(call("moderation", "try", str(policy), "--on", "texts", "--json")[1])
    assert [(action["before"], action["now"], action["examples"]) for action in found["actions"]] == [
        ("block", "allow", [jobs[1]]), ("block", "block", []),
    ]  # fmt: skip
    assert (found["tried"], found["not_there"]) == (2, {})


def test_a_wrong_policy_is_tried_on_nothing(call, policy) -> None:
    policy.write_text("x = 1\n")
    code, _, said = call("moderation", "try", str(policy))
    assert code == 2
    assert "line 1: x: unknown key" in said


def test_a_long_past_is_read_page_by_page(call, ledger, policy, monkeypatch) -> None:
    monkeypatch.setattr("headrace_workers.features.moderation.store.PAGE", 2)
    at = ledger.now() - 1
    for job in take_in(ledger, [moderation(input=f"falcon {n}") for n in range(5)]):
        receipt_of(ledger, job, {}, "allow", at)
    for limit, tried in ((3, 3), (4, 4), (5, 5), (9, 5)):
        found = json.loads(call("moderation", "try", str(policy), "--on", "texts", "-n", str(limit), "--json")[1])
        assert found["tried"] == tried
        assert len(found["actions"][0]["examples"]) == tried

"""`headrace up` in one shell, and everything else in another."""

import json
import re
import shlex
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select
from tests.acceptance.conftest import Shell, end, lines, running
from tests.services.eventually import eventually
from tests.workers.models.random_gguf import write_random_gguf

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.tables import JOBS
from headrace_workers.features.batches.tables import BATCHES
from headrace_workers.testing import make_echo_model

pytestmark = pytest.mark.acceptance

UNKNOWN = "7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """It, and all that it starts, are the program that users start."""
    with running(tmp_path_factory.mktemp("stack"), program=True) as shell:
        yield shell


def test_submit_and_wait_brings_the_answer(stack):
    (receipt,) = lines(stack.run("submit", "--prompt", "hello there", "--wait", "--json"))
    answer = receipt["answer"]
    assert (receipt["status"], answer["text"], answer["finish_reason"]) == ("completed", "hello there", "stop")
    assert [stage["stage"] for stage in receipt["stages"]] == ["generate", "moderate", "judge"]
    assert receipt["moderation"]["action"] == "allow"


def test_the_three_commands_that_it_prints_do_what_it_says(stack):
    assert_trials(stack)


def test_the_address_that_it_prints_opens_the_console(stack):
    log = stack.folder / "up.log"
    (address,) = eventually(lambda: re.findall(r"^  (http://\S+/console/sign-in\?token=\S+)$", log.read_text(), re.M))
    with httpx.Client(timeout=120, follow_redirects=True) as client:
        told = client.get(address)
        assert (told.status_code, told.url.path) == (200, "/console/playground/")
        form = {"origin": address.partition("/console")[0]}
        told = client.post(told.url, data={"model": "echo", "question": "hello there"}, headers=form)
        assert (told.status_code, "hello there" in told.text) == (200, True)


@pytest.mark.slow
def test_a_real_model_answers_as_it_says(tmp_path, smollm2_home):
    shell = Shell(tmp_path, {"HEADRACE_HOME": str(smollm2_home)})
    process = shell.start("up")
    try:
        eventually(lambda: "Ctrl-C stops" in (tmp_path / "up.log").read_text(), 600)
        assert "The capital of France is Paris." in assert_trials(shell)
    finally:
        end(process)


def assert_trials(shell: Shell) -> list[str]:
    """Run the commands that `up` prints, and return the lines that they are to print."""
    log = shell.folder / "up.log"
    found = eventually(lambda: re.findall(r"^  (headrace .*)\n      (.*)$", log.read_text(), re.MULTILINE))
    assert [shlex.split(command)[1] for command, _ in found] == ["submit", "moderation", "status"]
    for command, printed in found:
        assert printed in shell.run(*shlex.split(command)[1:])
    return [printed for _, printed in found]


def test_redacted_answers(stack):
    """An e-mail address and a profane word are replaced."""
    file = stack.folder / "redacted.jsonl"
    file.write_text('{"prompt": "write to ann@headrace.io"}\n{"prompt": "you are an idiot"}\n')
    receipts = lines(stack.run("submit", "redacted.jsonl", "--wait", "--json"))
    assert {receipt["line"]: receipt["answer"]["text"] for receipt in receipts} == {
        1: "write to [EMAIL]", 2: "you are an [PROFANITY]",
    }  # fmt: skip


def test_a_file_is_submitted_whole_or_not_at_all(stack):
    file = stack.folder / "jobs.jsonl"
    file.write_text('{"prompt": "one"}\n{"prompt": 2}\n')
    stack.run("submit", "jobs.jsonl", code=2)
    file.write_text('{"prompt": "one"}\n{"input": "q", "output": "a", "criteria": [{"criterion": "json_valid"}]}\n')
    receipts = lines(stack.run("submit", "jobs.jsonl", "--wait", "--json"))
    assert sorted(receipt["kind"] for receipt in receipts) == ["evaluation", "generation"]


def test_status_of_a_job_and_of_the_whole(stack):
    (receipt,) = lines(stack.run("submit", "--prompt", "status", "--wait", "--json"))
    (job,) = lines(stack.run("status", receipt["job_id"], "--json"))
    assert [step["state"] for step in job["steps"]] == ["done", "done", "done"]
    (whole,) = lines(stack.run("status", "--json"))
    assert whole["done"] >= 1
    stack.run("status", UNKNOWN, code=1)


def test_results_from_the_beginning(stack):
    (receipt,) = lines(stack.run("submit", "--prompt", "results", "--wait", "--json"))
    ends = lines(stack.run("results", "--from-beginning", "--json"))
    assert receipt["job_id"] in {end.get("job_id") for end in ends}


def test_cancel_tells_what_happened(stack):
    make_echo_model(stack.folder / ".headrace", "unserved")
    (waiting,) = lines(stack.run("submit", "--prompt", "x", "--model", "unserved", "--json"))
    eventually(lambda: stack.call("status", waiting["job_id"], code=(0, 1)).returncode == 0)  # it is taken in
    stack.run("cancel", waiting["job_id"])  # which waits ten seconds at most for what comes of it
    eventually(lambda: lines(stack.run("status", waiting["job_id"], "--json"))[0]["state"] == "cancelled")
    (done,) = lines(stack.run("submit", "--prompt", "done", "--wait", "--json"))
    stack.run("cancel", done["job_id"], code=1)


def test_cancelling_an_unknown_id_says_that_it_is_not_known_yet(stack):
    asked = ("cancel", UNKNOWN.replace("7", "8"), "--json")
    eventually(lambda: lines(stack.run(*asked))[0]["state"] == "cancelled_ahead")  # "asked" after ten seconds


def test_another_job_under_the_same_key_is_told_and_the_first_one_stays(stack):
    file = stack.folder / "keyed.jsonl"
    for prompt, code in (("first", 0), ("second", 1), ("first", 0)):
        file.write_text(f'{{"prompt": "{prompt}", "idempotency_key": "order-17"}}\n')
        stack.run("submit", "keyed.jsonl", "--wait", "--timeout", "60", code=code)
    (letter,) = [found for found in lines(stack.run("dead", "list", "--json")) if found["category"] == "conflict"]
    (job,) = lines(stack.run("status", letter["refers_to"], "--json"))
    assert (job["state"], job["end"]["answer"]["text"]) == ("done", "first")


def test_the_dead_are_listed_shown_and_replayed(stack):
    (dead,) = lines(stack.run("submit", "--prompt", "x", "--model", "nobody", "--wait", "--json", code=1))
    assert dead["category"] == "invalid"
    assert "echo" in dead["reason"]
    listed = lines(stack.run("dead", "list", "--json"))
    (letter,) = [entry for entry in listed if entry["refers_to"] == dead["refers_to"]]
    assert "nobody" in stack.run("dead", "list", letter["id"])
    stack.run("dead", "replay", letter["id"])
    assert letter["id"] not in {entry["id"] for entry in lines(stack.run("dead", "list", "--json"))}


def test_a_second_up_on_the_same_home_is_refused(stack):
    """Two stacks would share one ledger file: the second says who is there, and touches nothing of it."""
    before = json.loads((stack.folder / ".headrace" / "run.json").read_text())
    told = stack.words("up", code=2)
    assert f"a stack runs already in {stack.folder}/.headrace (process {before['pid']})" in told
    assert "HEADRACE_HOME" in told
    assert json.loads((stack.folder / ".headrace" / "run.json").read_text()) == before
    (receipt,) = lines(stack.run("submit", "--prompt", "still there?", "--wait", "--json"))
    assert receipt["answer"]["text"] == "still there?"


@pytest.fixture(scope="module")
def answered(stack):
    """A stack with something to show."""
    stack.run("submit", "--prompt", "something to show", "--wait")
    return stack


@pytest.mark.slow
def test_output_that_cannot_be_written_is_told(answered):
    command = shlex.join(answered.argv("submit", "--prompt", "x"))
    full = answered.shell(f"{command} > /dev/full")
    assert (full.returncode, full.stderr.splitlines()[-1]) == (
        1, "headrace: standard output cannot be written: No space left on device",
    )  # fmt: skip
    assert "1 of 1 jobs were published before this" in full.stderr
    gone = answered.shell(f"{command} | :; exit ${{PIPESTATUS[0]}}")
    assert gone.returncode in (0, 141)
    assert "Traceback" not in full.stderr + gone.stderr


def test_a_burst_of_one_request_costs_one_generation(stack):
    line = {"prompt": "Why do rivers bend?", "cache": "exact", "model": "echo", "lane": "batch"}
    tiers = []
    for name in ("first", "second"):
        jobs = [json.dumps({**line, "idempotency_key": f"{name}-{number}"}) for number in range(60)]
        (stack.folder / f"{name}.jsonl").write_text("\n".join(jobs))
        told = lines(stack.run("submit", f"{name}.jsonl", "--wait", "--json"))
        tiers.append(Counter(entry["answer"]["recall"]["tier"] for entry in told))
    assert (tiers[0]["none"], tiers[0].total()) == (1, 60)
    assert tiers[1] == {"exact": 60}


def test_a_stack_speaks_http_and_prints_how(stack):
    log = stack.folder / "up.log"
    (export,) = eventually(lambda: [line for line in log.read_text().splitlines() if "OPENAI_BASE_URL=" in line])
    ask = 'curl -s -H "Authorization: Bearer $OPENAI_API_KEY" "$OPENAI_BASE_URL/jobs{}" {}'
    body = """-d '{"model": "echo", "prompt": "over http"}'"""
    job = json.loads(stack.shell(f"{export}\n{ask.format('', body)}").stdout)
    assert job["state"] == "accepted"
    told = json.loads(stack.shell(f"{export}\n{ask.format('/' + job['id'] + '?wait=60', '')}").stdout)
    assert told["end"]["answer"]["text"] == "over http"
    assert "gateway" in stack.run("health", "gateway")


def test_a_criterion_is_tried_by_the_models_that_run(stack: Shell) -> None:
    rubric = {"criterion": "rubric", "question": "Kind?", "name": "polite"}
    asked = [{"tenant": "tries", "prompt": f"Say {n}.", "criteria": [rubric]} for n in range(3)]
    (stack.folder / "tries.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in asked))
    stack.run("run", "tries.jsonl", "-o", "tries.receipts.jsonl")
    (stack.folder / "polite.toml").write_text('question = "Is it polite?"\n')
    for _ in range(2):
        done = stack.call("judge", "try", "polite.toml", "--tenant", "tries", "--json", code=0)
        assert "3 outputs at most become evaluation jobs of the batch lane, judged by echo" in done.stderr
        found = json.loads(done.stdout)
        assert (found["tried"], found["judged_both_times"], found["not_judged_now"]) == (3, 3, {})
        assert {item["output"] for item in found["moved"]} == {"Say 0.", "Say 1.", "Say 2."}
    ledger = Ledger.at(f"sqlite:///{stack.folder / '.headrace' / 'ledger.db'}")
    made = ledger.read(select(JOBS.c.payload).where(JOBS.c.tenant == "tries", JOBS.c.kind == "evaluation"))
    ledger.close()
    assert len(made) == 6
    assert {json.loads(row.payload)["lane"] for row in made} == {"batch"}
    told = stack.words("judge", "try", "polite.toml", "--on", "evaluations", "--tenant", "tries", code=0)
    assert "there is no output" in told


def test_a_trial_that_is_interrupted_leaves_nothing_at_work(stack: Shell) -> None:
    make_echo_model(stack.folder / ".headrace", "unserved")
    stack.run("submit", "--prompt", "Say so.", "--tenant", "broken-off", "--wait")
    (stack.folder / "kind.toml").write_text('question = "Is it kind?"\n')
    trial = ("judge", "try", "kind.toml", "--tenant", "broken-off")
    ledger = Ledger.at(f"sqlite:///{stack.folder / '.headrace' / 'ledger.db'}")
    theirs = select(BATCHES.c.id, BATCHES.c.state, BATCHES.c.taken).where(BATCHES.c.tenant == "broken-off")
    ended, log = [], stack.folder / "judge.log"
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)):
        process = stack.start(*trial, "--model", "unserved")
        (batch,) = eventually(lambda: [row for row in ledger.read(theirs) if row.taken and row.id not in ended])
        assert end(process, number) == code
        ended.append(batch.id)
    assert log.read_text().count("1 unfinished jobs are cancelled; run the command again to start over") == 2
    one_is_left = {ended[0]: "cancelled", ended[1]: "cancelled", ended[2]: "in_progress"}
    eventually(lambda: {row.id: row.state for row in ledger.read(theirs)} == one_is_left)
    done = stack.call(*trial, "--json", code=0)
    told = " ".join(done.stderr.split())
    assert f"`headrace batch cancel {ended[2]}` ends its jobs" in told
    assert (ended[0] in told, json.loads(done.stdout)["tried"]) == (False, 1)
    stack.run("batch", "cancel", ended[2])
    ledger.close()


def test_a_vector_store_works_on_a_fresh_stack(stack):
    from openai import OpenAI

    url, key = stack.shell(
        "sed -n 's/.*OPENAI_BASE_URL=\\(\\S*\\).*/\\1/p' up.log; cat .headrace/api-key"
    ).stdout.split()
    with OpenAI(base_url=url, api_key=key, max_retries=0) as client:
        store = client.vector_stores.create(name="mills")
        file = ("mill.md", b"# Mills\n\nA mill stands by the river.\n")
        done = client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=file, poll_interval_ms=200)
        assert done.status == "completed"
        (hit,) = client.vector_stores.search(store.id, query="Where does the mill stand?").data
        assert "by the river" in hit.content[0].text


def test_a_gguf_file_is_served_by_one_command(tmp_path: Path):
    write_random_gguf(tmp_path / "Own-Model.gguf", "qwen2", "Q4_K")
    with running(tmp_path, "--model", "./Own-Model.gguf") as shell:
        told = (tmp_path / "up.log").read_text()
        assert "own-model: converting to int8" in told
        assert 'headrace submit --model own-model --prompt "What is the capital of France?" --wait' in told
        ask = ("submit", "--model", "own-model", "--prompt", "in", "--max-tokens", "4", "--wait", "--json")
        (receipt,) = lines(shell.run(*ask))
        assert (receipt["status"], receipt["answer"]["usage"]["completion_tokens"] > 0) == ("completed", True)

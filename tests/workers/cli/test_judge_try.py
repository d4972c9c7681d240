"""`headrace judge try`: a criterion is tried on what was judged before, from a shell and without a service."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from tests.workers.features.providers.remote_models import provider, write_catalogue
from tests.workers.ledger_jobs import take_in
from tests.workers.runtime.bridge.records import generation

from headrace_schemas import (
    Answer,
    Contains,
    EvaluationJob,
    JudgeVerdict,
    Length,
    ModerationVerdict,
    NotJudged,
    Result,
    Score,
    Usage,
)
from headrace_schemas.codec import encode_value
from headrace_workers.cli.connections import RunningStack
from headrace_workers.core.sql.database import reading, writing
from headrace_workers.core.tables import JOBS
from headrace_workers.features.generation.commands import serving
from headrace_workers.features.judging import commands
from headrace_workers.features.providers.store import AllowedProviders
from headrace_workers.models.engines.echo import make_echo_model

POLITE = Contains(text="please", name="polite")
OUTPUTS = (
    ("Water, please.", 1.0),
    ("Water, now.", 0.0),
    ("Water, thanks.", 0.0),
    ("Thanks, please.", 1.0),
    ("Not judged, thanks.", None),
    (None, None),
)


def end(ledger: Any, job: str, text: str | None, value: float | None, at: int) -> None:
    score = Score(
        criterion="contains", name="polite", version="v1", value=value,
        not_judged=None if value is not None else NotJudged.NOT_SAMPLED, reason=None if value is not None else "drawn",
    )  # fmt: skip
    answer = Answer(
        text=text, finish_reason="stop", model="m", quantization="q", usage=Usage(prompt_tokens=1, completion_tokens=1)
    )
    result = Result(
        job_id=job, tenant="default", status="completed", kind="generation", accepted_at=datetime.now(UTC),
        answer=answer, moderation=ModerationVerdict(action="allow"), judge=JudgeVerdict(scores=(score,)),
    )  # fmt: skip
    with writing(ledger.engine) as tx:
        tx.execute(update(JOBS).where(JOBS.c.id == job).values(
            state="done", ended_at=at, terminal_type="headrace.result.v1", terminal=encode_value(result),
        ))  # fmt: skip


@pytest.fixture
def judged(ledger: Any) -> list[str]:
    """Answers that a criterion `polite` judged, one that it did not, and one that moderation withheld; their ids."""
    jobs = take_in(ledger, [generation(criteria=[POLITE], prompt=f"{n}?") for n in range(len(OUTPUTS))])
    first = ledger.now() - 1_000
    for place, (job, (text, value)) in enumerate(zip(jobs, OUTPUTS, strict=True)):
        end(ledger, job, text, value, first + place)  # one after the other: `--limit` takes the latest
    return jobs


def written(tmp_path: Path, text: str, name: str = "polite.toml") -> str:
    file = tmp_path / name
    file.write_text(text)
    return str(file)


def test_a_new_version_is_shown_beside_what_was_said(call: Any, ledger: Any, judged: list[str], tmp_path: Path) -> None:
    file = written(tmp_path, 'criterion = "contains"\ntext = "thanks"\nshare = 0.01\n')
    before = rows(ledger)
    code, out, _ = call("judge", "try", file, "--on", "outputs", "--since", "1h", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["criterion"], found["against"], found["tried"]) == ("polite", "polite", 5)
    assert (found["judged_both_times"], found["only_before"], found["only_now"]) == (4, 0, 1)
    assert (found["turned_to_yes"], found["turned_to_no"]) == (1, 1)
    assert (found["drift"], found["low"] < 0 < found["high"]) == (0.0, True)
    assert found["not_judged_before"] == {"not_sampled": 1}
    assert (found["mean"], found["mean_low"] < found["mean"] < found["mean_high"]) == (0.6, True)
    moved = {item["job_id"]: (item["before"], item["now"], item["output"]) for item in found["moved"]}
    assert moved == {judged[0]: (1.0, 0.0, "Water, please."), judged[2]: (0.0, 1.0, "Water, thanks.")}
    assert rows(ledger) == before
    table = call("judge", "try", file, "--examples", "1")
    assert table[1].count("Water") == 1
    assert "turned to yes: 1; turned to no: 1" in table[2]


def test_what_is_looked_at(call: Any, ledger: Any, judged: list[str], tmp_path: Path) -> None:
    """So many, since then, of one tenant; and another criterion of before by its name."""
    file = written(tmp_path, 'criterion = "contains"\ntext = "please"\nname = "other"\n')
    assert json.loads(call("judge", "try", file, "--limit", "2", "--json")[1])["tried"] == 1
    assert "there is no output since 0s" in call("judge", "try", file, "--since", "0s")[2]
    assert "there is no output since 7d" in call("judge", "try", file, "--tenant", "shop")[2]
    nothing = call("judge", "try", file)
    assert "none of which other judged before" in nothing[2]
    assert "mean score 0.400 (" in nothing[2]
    assert ") of 5 outputs" in nothing[2]
    same = json.loads(call("judge", "try", file, "--against", "polite", "--json")[1])
    assert (same["drift"], same["turned_to_yes"], same["moved"]) == (0.0, 0, [])


def test_a_model_is_asked_here(call: Any, ledger: Any, judged: list[str], tmp_path: Path) -> None:
    make_echo_model(tmp_path / ".headrace", "echo")
    file = written(tmp_path, 'question = "Is it polite?"\nmodel = "another"\n')
    before = rows(ledger)
    found = json.loads(call("judge", "try", file, "--model", "echo", "--here", "--json")[1])
    assert (found["tried"], found["judged_both_times"], found["not_judged_now"]) == (5, 4, {})
    assert rows(ledger) == before


@pytest.mark.integration
def test_a_model_of_a_provider_judges_here_what_tenants_allow_it_to_see(
    call: Any, ledger: Any, judged: list[str], tmp_path: Path
) -> None:
    file = written(tmp_path, 'question = "Is it polite?"\n')
    with provider() as far:
        far.says = lambda _asked: "yes"
        write_catalogue(tmp_path / ".headrace", {"far": ("openai", far)})
        refused = json.loads(call("judge", "try", file, "--model", "far", "--here", "--json")[1])
        assert (refused["not_judged_now"], far.seen) == ({"not_allowed": 5}, [])
        ledger.of(AllowedProviders).allow("default", ["openai"])
        found = json.loads(call("judge", "try", file, "--model", "far", "--here", "--json")[1])
        assert (found["not_judged_now"], found["mean"], len(far.seen)) == ({}, 1.0, 5)


def test_why_outputs_have_no_score_is_said(call: Any, ledger: Any, judged: list[str], tmp_path: Path) -> None:
    file = written(tmp_path, 'criterion = "f1"\n')
    found = json.loads(call("judge", "try", file, "--json")[1])
    assert found["not_judged_now"] == {"no_reference": 5}
    assert found["reasons"] == {"no_reference": "the job gave no reference to compare with"}
    assert "the job gave no reference to compare with" in " ".join(call("judge", "try", file)[1].split())


def test_a_judge_that_the_running_stack_does_not_have_is_told_of(
    call: Any, ledger: Any, judged: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = RunningStack("apache", durable=True, kafka="k", redis="r", ledger="l", pid=7)
    for module in (serving, commands):
        monkeypatch.setattr(module, "running", lambda: there)
    monkeypatch.setattr(commands, "judge_by_queue", lambda *_: pytest.fail("it was asked"))
    before = rows(ledger)
    code, _, told = call("judge", "try", written(tmp_path, 'question = "?"\nmodel = "taste"\n'))
    assert (code, "(process 7) has no model 'taste': it has none. Nothing was asked" in told) == (2, True)
    assert rows(ledger) == before


@pytest.mark.parametrize("asked", ['question = "?"', 'criterion = "pairwise"', 'criterion = "cosine"'])
def test_a_model_is_not_loaded_unasked(call: Any, ledger: Any, judged: list[str], tmp_path: Path, asked: str) -> None:
    file = written(tmp_path, f"{asked}\n")
    before = rows(ledger)
    code, _, err = call("judge", "try", file)
    told = " ".join(err.split())
    assert (code, "no deployment is running: start `headrace up`" in told) == (2, True)
    assert "--here loads the model into this process" in told
    if "cosine" in asked:
        code, _, err = call("judge", "try", file, "--here")
        assert (code, "cosine needs the deployment's embedder" in " ".join(err.split())) == (2, True)
    assert rows(ledger) == before


def test_outputs_that_evaluations_brought(call: Any, ledger: Any, tmp_path: Path) -> None:
    job = EvaluationJob(input="Why?", output="Since it rained.", reference="it rained", criteria=(Length(max_words=2),))
    (job_id,) = take_in(ledger, [job])
    score = Score(criterion="length", value=0.0)
    result = Result(
        job_id=job_id, tenant="default", status="completed", kind="evaluation", accepted_at=datetime.now(UTC),
        judge=JudgeVerdict(scores=(score,)),
    )  # fmt: skip
    with writing(ledger.engine) as tx:
        tx.execute(update(JOBS).where(JOBS.c.id == job_id).values(
            state="done", ended_at=ledger.now() - 1, terminal_type="headrace.result.v1", terminal=encode_value(result),
        ))  # fmt: skip
    file = written(tmp_path, 'criterion = "f1"\n')
    found = json.loads(call("judge", "try", file, "--on", "evaluations", "--against", "length", "--json")[1])
    assert [item["now"] for item in found["moved"]] == [pytest.approx(0.8)]
    assert json.loads(call("judge", "try", file, "--json")[1])["tried"] == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('criterion = "taste"\n', "polite.toml: criterion: must be one of"),
        ("question = 5\n", "polite.toml: question: must be text, not a number"),
        ("question = \n", "polite.toml is no TOML: "),
        ('criterion = "grounded"\n', "polite.toml: grounded cannot be tried"),
        ("# " + "x" * 100_000, "polite.toml has more than 100,000 bytes"),
    ],
)
def test_a_file_that_is_no_criterion(call: Any, ledger: Any, tmp_path: Path, text: str, told: str) -> None:
    code, _, err = call("judge", "try", written(tmp_path, text))
    assert (code, told in " ".join(err.split())) == (2, True)
    code, _, err = call("judge", "try", str(tmp_path / "none.toml"))
    assert (code, "cannot be read" in " ".join(err.split())) == (2, True)


def rows(ledger: Any) -> list[Any]:
    with reading(ledger.engine) as tx:
        return [*tx.execute(JOBS.select().order_by(JOBS.c.id))]

import json
from pathlib import Path

import pytest
from tests.workers.features.evals.runs import RUN, made

from headrace_schemas import GenerationJob
from headrace_schemas.output_format import JsonObjectFormat
from headrace_workers.cli.jobfile import parse_job
from headrace_workers.core.job_defaults import Defaults
from headrace_workers.features.evals.plan import Plan
from headrace_workers.features.evals.run_file import WrongRows, WrongRun

ROWS = ({"q": "one"}, {"q": "two"})


def jobs_of(plan: Plan) -> list[GenerationJob]:
    found = [parse_job(line, Defaults("none")) for line in plan.lines()]
    assert all(isinstance(job, GenerationJob) for job in found)
    return found  # type: ignore[return-value]


def test_each_variant_is_asked_about_each_item_and_as_often_as_is_said(tmp_path: Path) -> None:
    jobs = jobs_of(made(tmp_path, ROWS, "repeats = 2"))
    assert [job.prompt for job in jobs] == ["one", "Now: one"] * 2 + ["two", "Now: two"] * 2
    assert {(job.lane, job.cache, job.model) for job in jobs} == {("batch", "off", "echo")}
    assert len({job.idempotency_key for job in jobs}) == 8
    assert jobs[5].metadata["variant"] == "B"
    assert jobs[5].metadata["item"] == "2"
    assert jobs[0].criteria == jobs[7].criteria != ()


def test_a_line_is_where_its_job_stands(tmp_path: Path) -> None:
    plan = made(tmp_path, ROWS, "repeats = 2")
    assert [plan.line_of(i, r, v) for i in range(2) for r in range(2) for v in range(2)] == list(range(1, 9))
    assert plan.jobs == 8


def test_repeats_have_seeds_of_their_own(tmp_path: Path) -> None:
    """The same seed would give the same answer again."""
    text = RUN.format(more="repeats = 2").replace('name = "A"', 'name = "A"\nsampling = {temperature = 1, seed = 7}')
    assert [job.sampling.seed for job in jobs_of(made(tmp_path, ROWS[:1], text=text))] == [7, None, 8, None]


def test_a_system_prompt_makes_a_conversation(tmp_path: Path) -> None:
    text = RUN.format(more='reference = "{{q}}!"').replace('name = "A"', 'name = "A"\nsystem = "Of {{q}}."')
    job = jobs_of(made(tmp_path, ROWS, text=text))[0]
    assert [(message.role, message.content) for message in job.messages] == [("system", "Of one."), ("user", "one")]
    assert job.reference == "one!"


def test_what_a_run_is_changes_with_all_that_it_depends_on(tmp_path: Path) -> None:
    """Rows, criteria, margin, a file of a prompt, the tenant and the name; and with nothing else."""
    plan = made(tmp_path, ROWS)
    assert made(tmp_path, ROWS).identity == plan.identity
    others = {
        made(tmp_path, [*ROWS, {"q": "three"}]).identity,
        made(tmp_path, ROWS, "repeats = 2").identity,
        made(tmp_path, ROWS, text=RUN.format(more="").replace("0.02", "0.03")).identity,
        made(tmp_path, ROWS, text=RUN.format(more="").replace('"yes"', '"no"')).identity,
        Plan(plan.run, plan.dataset, "other").identity,
        Plan(plan.run, plan.dataset, "default", "again").identity,
        plan.identity,
    }
    assert len(others) == 7


def test_rows_that_make_no_job_are_all_named(tmp_path: Path) -> None:
    plan = made(tmp_path, [{"q": "a"}, {"p": "b"}, {"q": ""}], "repeats = 3")
    with pytest.raises(WrongRows) as caught:
        list(plan.lines())
    told = str(caught.value).splitlines()
    assert told[0].startswith("3 rows are wrong")
    assert told[1].endswith("items.jsonl:2: variant A: the prompt cannot be filled: it lacks `q`; it has `p`")
    assert told[3].endswith("items.jsonl:3: variant A: prompt: is empty")


def test_a_variant_may_ask_for_a_format(tmp_path: Path) -> None:
    text = RUN.format(more="").replace('name = "A"', 'name = "A"\noutput = {type = "json_object"}')
    assert [job.output for job in jobs_of(made(tmp_path, ROWS[:1], text=text))] == [JsonObjectFormat(), None]


def _of_applications(folder: Path, more: str = "") -> Plan:
    text = RUN.format(more='id = "n"\nreference = "{{right}}"').replace(
        'prompt = "{{q}}"', 'application = "triage@2"' + more
    )
    return made(folder, [{"n": 1, "q": "Why?", "right": "yes", "late": False, "gone": None}], text=text)


def test_a_variant_may_be_an_application_whose_variables_are_the_fields_of_a_row(tmp_path: Path) -> None:
    jobs = [json.loads(line) for line in _of_applications(tmp_path).lines()]
    assert (jobs[0]["application"], jobs[0]["variables"]) == ("triage@2", {"q": "Why?", "late": False})
    assert (jobs[0]["reference"], len(jobs[0]["criteria"])) == ("yes", 2)
    assert not jobs[0].keys() & {"model", "prompt", "messages", "cache", "output"}
    assert (jobs[1]["model"], jobs[1]["prompt"]) == ("echo", "Now: Why?")
    named = list(_of_applications(tmp_path, '\nvariables = ["q", "right"]').lines())
    assert json.loads(named[0])["variables"] == {"q": "Why?", "right": "yes"}


def test_a_variant_of_an_application_sets_nothing_that_the_application_does(tmp_path: Path) -> None:
    with pytest.raises(WrongRun, match=r"variants 1 \(A\)(.knowledge)?: knowledge: the application sets it"):
        _of_applications(tmp_path, '\nknowledge = "help"')

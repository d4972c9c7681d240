"""What many receipts come to."""

from tests.workers.cli.conftest import cancelled, dead, result, stage

from headrace_schemas import Embedding, Usage
from headrace_workers.cli.output import console
from headrace_workers.features.batches.commands.run_report import draw_summary, summary_dict
from headrace_workers.features.batches.commands.run_summary import Tally, rate


def test_counts_and_tokens_add_up():
    """Each receipt counts once, under its end."""
    tally = Tally([result(1), result(2, status="blocked", text=None), dead(3), dead(4), cancelled(5)])
    assert tally.statuses == {"completed": 1, "blocked": 1, "dead": 2, "cancelled": 1}
    assert (tally.jobs, tally.unanswered) == (5, 3)
    assert (tally.prompt_tokens, tally.completion_tokens) == (14, 6)
    assert tally.causes == {"permanent at generate": 2}


def test_a_groups_time_counts_once():
    """Four jobs that shared one call of 100 ms kept a worker busy for 100 ms."""
    tally = Tally(result(n, stages=(stage("generate", ran_ms=100.0, group=4),)) for n in range(4))
    assert [(s.stage, s.jobs, s.ran_p50_ms, s.busy_ms) for s in tally.stages] == [("generate", 4, 100.0, 100.0)]


def test_stages_stand_in_the_order_of_the_pipeline():
    """Whatever ended first: an evaluation begins with the judge."""
    tally = Tally([result(1, stages=(stage("judge", attempt=2),)), result(2)])
    assert [(s.stage, s.retried) for s in tally.stages] == [("generate", 0), ("moderate", 0), ("judge", 1)]


def test_nothing_is_a_summary_too(capsys):
    """No receipts, no time: no division by zero."""
    assert rate(5, 0.0) == 0.0
    console(data=True).print(draw_summary(Tally(), Tally(), 0.0))
    assert "0 read, 0 written" in capsys.readouterr().out


def test_speed_is_that_of_this_run():
    """Receipts of earlier runs count as jobs and not as speed."""
    found = summary_dict(Tally([result(1), result(2)]), Tally([result(2)]), 2.0, 1.0)
    assert (found["jobs"], found["this_run"]["jobs"], found["this_run"]["tokens_per_second"]) == (2, 1, 1.5)


def test_tokens_of_a_vector_were_read():
    """And none were written."""
    usage = Usage(prompt_tokens=5, completion_tokens=0)
    made = Embedding(model="m", embedder="m/int8/ab", dimensions=2, vector="AACAPwAAAL8=", usage=usage)
    tally = Tally([result(1), result(2, kind="embedding", embedding=made, answer=None)])
    assert (tally.prompt_tokens, tally.completion_tokens) == (12, 3)

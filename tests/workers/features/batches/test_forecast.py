import json
from pathlib import Path

import pytest
from sqlalchemy import func, select
from tests.workers.cli.conftest import call, ledger  # noqa: F401
from tests.workers.features.batches.running import Running, jobs, text_of, with_usage

from headrace_workers.core.tables import JOBS
from headrace_workers.features.batches.tables import BATCHES
from headrace_workers.files.tables import FILES
from headrace_workers.testing import make_echo_model


@pytest.fixture
def forecast(call, ledger, tmp_path, monkeypatch):  # noqa: F811
    """Runs `batch submit --dry-run` over lines; exit code and what it says as JSON."""
    monkeypatch.setenv("HEADRACE_MODEL", "echo")
    monkeypatch.setenv("HEADRACE_TENANT", "a")
    make_echo_model(tmp_path / ".headrace")

    def tell(lines, *options):
        Path("jobs.jsonl").write_bytes(text_of(lines))
        code, out, err = call("batch", "submit", "jobs.jsonl", "--dry-run", *options, "--json")
        assert code in (0, 1), err
        return code, json.loads(out)

    return tell


def test_it_counts_what_would_run_and_what_would_not(forecast, ledger):  # noqa: F811
    same = {"prompt": "one two", "idempotency_key": "k", "sampling": {"max_tokens": 5}}
    code, told = forecast([same, same, b"{", {"prompt": "three", "sampling": {"max_tokens": 7}}])
    assert code == 1
    assert (told["lines"], told["would_run"]) == (4, 2)
    assert told["errors"] == {"duplicate_custom_id": 1, "invalid": 1}
    assert [error["line"] for error in told["first_errors"]] == [2, 3]
    assert (told["prompt_tokens"], told["most_tokens"]) == (3, 15)
    for table in (BATCHES, FILES, JOBS):
        assert ledger.read(select(func.count()).select_from(table))[0][0] == 0


def test_it_finds_what_is_asked_twice_where_the_cache_may_answer(forecast):
    lines = [{"prompt": "one"}, {"prompt": "one"}, {"prompt": "two"}]
    assert forecast(lines)[1]["repeated"] == 0
    code, told = forecast(lines, "--cache", "exact")
    assert (code, told["repeated"], told["models"]["echo"]["lines"]) == (0, 1, 2)


def test_it_estimates_by_what_like_lines_took(forecast, ledger, tmp_path):  # noqa: F811
    lines = jobs(30, sampling={"max_tokens": 4})
    assert forecast(lines)[1]["models"]["echo"] == {"lines": 30, "completion_tokens": None, "seconds": None}
    running = Running(ledger, tmp_path / ".headrace")
    running.submit(lines)
    running.run(with_usage)  # each writes two tokens
    told = forecast(jobs(100, sampling={"max_tokens": 4}))[1]["models"]["echo"]
    assert told["completion_tokens"] == {"expected": 200.0, "low": 200.0, "high": 200.0}
    assert told["seconds"]["expected"] > 0


def test_people_are_told_in_words(call, forecast):  # noqa: F811
    forecast([b"{", *jobs(1)])
    code, out, err = call("batch", "submit", "jobs.jsonl", "--dry-run", "--max-tokens", "10")
    assert code == 1
    assert "nothing was submitted" in err
    assert "2 lines, of which 1 would be run" in out
    assert "line 1: invalid: it is no JSON" in out
    assert "--max-tokens 10 may end before the last line does" in out

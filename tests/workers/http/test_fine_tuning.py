"""Fine-tuning, asked for by OpenAI's own client. No worker tunes: the test writes what one would."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import openai
import pytest
from tests.services.eventually import eventually
from tests.workers.features.applications.test_store import Content
from tests.workers.http.openai_client import openai_of
from tests.workers.http.served import Gateway

from headrace_schemas.errors import UnknownModel
from headrace_schemas.job import derive_job_id
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.sql.database import writing
from headrace_workers.features.applications.store import Applications
from headrace_workers.features.tuning import store
from headrace_workers.features.tuning.copies import copy_model, sync_copy
from headrace_workers.features.tuning.store import Checkpoint, RunEvent, RunWrite, TuningRuns
from headrace_workers.features.tuning.tuner import RESULTS
from headrace_workers.files.object_store import Store
from headrace_workers.files.service import Files
from headrace_workers.files.settings import FileSettings
from headrace_workers.files.store.files import NewFile
from headrace_workers.models.registry import model_dir, read_card, write_card
from headrace_workers.testing import make_echo_model

LINE = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai_of(gateway, gateway.key("tunes"), max_retries=0) as found:
        yield found


@pytest.fixture(scope="module")
def file_id(client: openai.OpenAI) -> str:
    return client.files.create(file=("chats.jsonl", LINE * 20), purpose="fine-tune").id


def begun(client: openai.OpenAI, file_id: str, **options: Any) -> Any:
    return client.fine_tuning.jobs.create(**{"model": "echo", "training_file": file_id, **options})


def store_of(gateway: Gateway) -> str:
    return gateway.settings.of(FileSettings).place(gateway.settings.home)


def ended(gateway: Gateway, run_id: str, *aliases: str) -> None:
    """End a run as its last step would, with these models, which lie in the catalogue and in the store."""
    for alias in aliases:
        folder = make_echo_model(gateway.settings.home, alias)
        write_card(folder, replace(read_card(folder), tenant="tunes"))
        copy_model(gateway.settings.home, Store.at(store_of(gateway)), alias)
    told = {"tuned": {"aliases": aliases, "usage": {"prompt_tokens": 700}}}
    with writing(gateway.services.ledger.engine) as tx:
        store.end_runs(tx, {run_id.removeprefix("ftjob-"): json.dumps(told).encode()})


def test_a_run_is_created_found_listed_and_cancelled(client: openai.OpenAI, file_id: str) -> None:
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": "auto"}}}
    first = begun(client, file_id, suffix="tickets", seed=7, method=method, metadata={"of": "test"})
    assert (first.object, first.status, first.model) == ("fine_tuning.job", "validating_files", "echo")
    assert (first.training_file, first.validation_file, first.seed) == (file_id, None, 7)
    assert (first.hyperparameters.n_epochs, first.hyperparameters.batch_size) == (2, "auto")
    assert first.method.supervised.hyperparameters.n_epochs == 2
    assert (first.fine_tuned_model, first.trained_tokens, first.result_files, first.error) == (None, None, [], None)
    assert (first.metadata, first.organization_id, first.finished_at) == ({"of": "test"}, "tunes", None)
    assert client.fine_tuning.jobs.retrieve(first.id) == first
    second = begun(client, file_id, hyperparameters={"n_epochs": 1})
    listed = [run.id for run in client.fine_tuning.jobs.list(limit=1)]
    assert listed[listed.index(second.id) :][:2] == [second.id, first.id]
    with pytest.raises(openai.ConflictError):  # it is read when the run begins
        client.files.delete(file_id)
    assert client.fine_tuning.jobs.cancel(first.id).status == "cancelled"
    assert client.fine_tuning.jobs.retrieve(first.id).finished_at is not None
    assert client.fine_tuning.jobs.cancel(first.id).status == "cancelled"
    client.fine_tuning.jobs.cancel(second.id)


def test_the_same_idempotency_key_is_the_same_run(client: openai.OpenAI, file_id: str) -> None:
    key = {"extra_headers": {"Idempotency-Key": "tickets-1"}}
    run = begun(client, file_id, **key)
    assert begun(client, file_id, **key).id == run.id
    client.fine_tuning.jobs.cancel(run.id)


def test_events_and_checkpoints_are_paged_newest_first(gateway: Gateway, client: openai.OpenAI, file_id: str) -> None:
    run = begun(client, file_id)
    job_id = run.id.removeprefix("ftjob-")
    step = {"step": 2, "train_loss": 0.5}
    with writing(gateway.services.ledger.engine) as tx:
        for number in (1, 2, 3):
            saved = Checkpoint(number, f"tuning/{number}", "a" * 64, {"train_loss": 1 / number})
            RunWrite(job_id, "running", [RunEvent(f"step {number}", data=step)], [saved]).write(tx)
        RunWrite(job_id, "running", [RunEvent("a checkpoint is corrupted", "warn")]).write(tx)
    assert client.fine_tuning.jobs.retrieve(run.id).status == "running"
    events = list(client.fine_tuning.jobs.list_events(run.id, limit=3))
    assert [event.message for event in events] == ["a checkpoint is corrupted", "step 3", "step 2", "step 1"]
    assert [(event.type, event.level, event.data) for event in events[:2]] == [
        ("message", "warn", None), ("metrics", "info", step),
    ]  # fmt: skip
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(run.id, limit=2))
    assert [checkpoint.step_number for checkpoint in checkpoints] == [3, 2, 1]
    assert (checkpoints[0].fine_tuned_model_checkpoint, checkpoints[0].fine_tuning_job_id) == (None, run.id)
    assert (checkpoints[1].metrics.train_loss, checkpoints[1].metrics.step) == (0.5, 2)
    with pytest.raises(openai.NotFoundError):
        client.fine_tuning.jobs.list_events(run.id, after="ftevent-another-1")
    client.fine_tuning.jobs.cancel(run.id)


@pytest.mark.parametrize(
    ("changes", "error", "param"),
    [
        ({"method": {"type": "dpo"}}, openai.BadRequestError, "method.type"),
        ({"method": {"type": "reinforcement"}}, openai.BadRequestError, "method.type"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, openai.BadRequestError, "integrations"),
        ({"hyperparameters": {"n_epochs": 51}}, openai.BadRequestError,
         "method.supervised.hyperparameters.n_epochs"),
        ({"suffix": "Tickets"}, openai.BadRequestError, "suffix"),
        ({"model": "none-such"}, openai.NotFoundError, "model"),
        ({"training_file": "file-none"}, openai.NotFoundError, "training_file"),
        ({"validation_file": "file-none"}, openai.NotFoundError, "validation_file"),
        ({"extra_body": {"surprise": 1}}, openai.BadRequestError, "surprise"),
        ({"extra_body": {"headrace": {"quantizations": ["int8", "int8"]}}}, openai.BadRequestError, None),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_by_name(
    client: openai.OpenAI, file_id: str, changes: Any, error: Any, param: str | None
) -> None:
    with pytest.raises(error) as caught:
        begun(client, file_id, **changes)
    assert caught.value.param == param


def test_a_file_of_another_purpose_is_refused(client: openai.OpenAI) -> None:
    other = client.files.create(file=("a.jsonl", LINE), purpose="user_data")
    with pytest.raises(openai.BadRequestError, match="must be 'fine-tune'"):
        begun(client, other.id)


def test_runs_cannot_be_paused(client: openai.OpenAI, file_id: str) -> None:
    run = begun(client, file_id)
    for call in (client.fine_tuning.jobs.pause, client.fine_tuning.jobs.resume):
        with pytest.raises(openai.BadRequestError, match="paused"):
            call(run.id)
    client.fine_tuning.jobs.cancel(run.id)


def test_a_tuned_model_of_another_tenant_is_neither_deleted_nor_tuned(
    gateway: Gateway, client: openai.OpenAI, file_id: str
) -> None:
    ended(gateway, begun(client, file_id).id, "ft-echo-theirs")
    with openai_of(gateway, gateway.key("tunes-not"), max_retries=0) as other:
        with pytest.raises(openai.NotFoundError):
            other.models.delete("ft-echo-theirs")
        mine = other.files.create(file=("a.jsonl", LINE), purpose="fine-tune")
        with pytest.raises(openai.NotFoundError, match="ft-echo-theirs"):
            begun(other, mine.id, model="ft-echo-theirs")
    assert client.models.delete("ft-echo-theirs").deleted


def test_a_tuned_model_is_named_and_deleted_when_no_job_is_open(
    gateway: Gateway, client: openai.OpenAI, file_id: str
) -> None:
    run = begun(client, file_id)
    stored = gateway.services.of(Files)
    piece = stored.piece([b"step,train_loss\n"], tenant="tunes", of="file-results")
    losses = NewFile(id="file-results", tenant="tunes", purpose=RESULTS, name="step_metrics.csv", pieces=(piece,))
    with writing(gateway.services.ledger.engine) as tx:
        RunWrite(run.id.removeprefix("ftjob-"), "running", results=losses).write(tx)
    aliases = {"aliases": '["ft-echo-1", "ft-echo-1-float32"]'}
    making = RunWrite(run.id.removeprefix("ftjob-"), "running", changes=aliases)
    with writing(gateway.services.ledger.engine) as tx:
        making.write(tx)
    folder = make_echo_model(gateway.settings.home, "ft-echo-1")
    write_card(folder, replace(read_card(folder), tenant="tunes"))
    with pytest.raises(openai.ConflictError, match=f"{making.job_id} makes it"):
        client.models.delete("ft-echo-1")
    assert client.fine_tuning.jobs.retrieve(run.id).fine_tuned_model is None
    ended(gateway, run.id, "ft-echo-1", "ft-echo-1-float32")
    job = client.fine_tuning.jobs.retrieve(run.id)
    assert client.files.content(job.result_files[0]).text == "step,train_loss\n"
    assert client.files.retrieve(job.result_files[0]).purpose == "fine-tune-results"
    assert (job.status, job.fine_tuned_model, job.trained_tokens) == ("succeeded", "ft-echo-1", 700)
    assert client.models.retrieve("ft-echo-1").id == "ft-echo-1"
    learner = begun(client, file_id, model="ft-echo-1")
    with pytest.raises(openai.ConflictError, match="learns from it"):
        client.models.delete("ft-echo-1")
    client.fine_tuning.jobs.cancel(learner.id)
    waiting = client.responses.create(model="ft-echo-1", input="i", background=True)
    eventually(lambda: gateway.services.ledger.of(TuningRuns).needs("ft-echo-1"))
    with pytest.raises(openai.ConflictError, match="waits for it"):
        client.models.delete("ft-echo-1")
    client.responses.cancel(waiting.id)
    applications = gateway.services.ledger.of(Applications)
    numbers = [
        applications.push("tunes", Content("triage", f'{{"model": "{model}"}}'), "ada")[0]
        for model in ("ft-echo-1", "echo")
    ]
    applications.move("tunes", "triage", "production", numbers[0], "ada")
    with pytest.raises(openai.ConflictError, match="triage@production uses it: move that label first"):
        client.models.delete("ft-echo-1")
    applications.move("tunes", "triage", "production", numbers[1], "ada")
    assert client.models.delete("ft-echo-1").deleted
    assert not model_dir(gateway.settings.home, "ft-echo-1").exists()
    with pytest.raises(UnknownModel, match="it was deleted"):
        sync_copy(gateway.settings.home, store_of(gateway), "ft-echo-1")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("ft-echo-1")
    with pytest.raises(openai.NotFoundError, match="ft-echo-1"):  # though the gateway knew it
        client.responses.create(model="ft-echo-1", input="i", background=True)
    assert client.fine_tuning.jobs.retrieve(run.id).fine_tuned_model == "ft-echo-1-float32"
    client.models.delete("ft-echo-1-float32")
    with pytest.raises(openai.NotFoundError):  # nothing of the run is kept behind its last model
        client.fine_tuning.jobs.retrieve(run.id)


def test_a_key_whose_job_was_cancelled_before_it_came_begins_no_run(
    gateway: Gateway, client: openai.OpenAI, file_id: str
) -> None:
    """The run would never end, since its job never begins."""
    job_id = derive_job_id("tunes", "cancelled-ahead")
    gateway.services.ledger.cancel(Cancellation(job_id, "tunes", "enough"))
    with pytest.raises(openai.ConflictError, match="send another key"):
        begun(client, file_id, extra_headers={"Idempotency-Key": "cancelled-ahead"})

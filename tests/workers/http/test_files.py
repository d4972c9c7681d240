import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from tests.services.eventually import eventually
from tests.workers.http.served import IDLE

from headrace_workers.features.files.feature import FILES_READ

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def ai(gateway):
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key(), max_retries=0) as client:
        yield client


def requests(count, model="echo", **body):
    lines = [
        {"custom_id": f"k{number}", "method": "POST", "url": CHAT,
         "body": {"model": model, "messages": [{"role": "user", "content": f"say {number}"}], **body}}
        for number in range(count)
    ]  # fmt: skip
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def send(ai, data, name="jobs.jsonl", **options):
    return ai.files.create(file=(name, data), purpose="batch", **options)


def done(ai, batch_id):
    return eventually(lambda: (b := ai.batches.retrieve(batch_id)).status in ("completed", "failed", "expired") and b)


def test_a_file_is_sent_found_read_and_deleted(ai):
    made = send(ai, b"one\ntwo\n", expires_after={"anchor": "created_at", "seconds": 3_600})
    assert (made.bytes, made.filename, made.purpose, made.status) == (8, "jobs.jsonl", "batch", "processed")
    assert made.expires_at == pytest.approx(made.created_at + 3_600, abs=1)
    assert ai.files.retrieve(made.id) == made
    assert ai.files.content(made.id).read() == b"one\ntwo\n"
    assert made.id in {item.id for item in ai.files.list(purpose="batch")}
    assert made.id not in {item.id for item in ai.files.list(purpose="vision")}
    assert ai.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        ai.files.retrieve(made.id)


def test_pages_of_files_hold_each_once(ai):
    ids = [send(ai, b"x").id for _ in range(5)]
    for order in ("desc", "asc"):
        found = [item.id for item in ai.files.list(limit=2, order=order) if item.id in ids]
        assert sorted(found) == sorted(ids)
        assert len(found) == len(ids)


def test_a_batch_is_run(ai):
    batch = ai.batches.create(
        input_file_id=send(ai, requests(20) + b"{\n").id, endpoint=CHAT, completion_window="24h",
        metadata={"what": "a test"},
    )  # fmt: skip
    assert (batch.endpoint, batch.completion_window, batch.metadata) == (CHAT, "24h", {"what": "a test"})
    ended = done(ai, batch.id)
    assert ended.status == "completed"
    assert (ended.request_counts.total, ended.request_counts.completed, ended.request_counts.failed) == (21, 20, 1)
    assert ended.usage.output_tokens == 40
    lines = [json.loads(line) for line in ai.files.content(ended.output_file_id).text.splitlines()]
    said = {line["custom_id"]: line["response"]["body"]["choices"][0]["message"]["content"] for line in lines}
    assert said == {f"k{number}": f"say {number}" for number in range(20)}
    (error,) = [json.loads(line) for line in ai.files.content(ended.error_file_id).text.splitlines()]
    assert (error["line"], error["error"]["code"]) == (21, "invalid")
    assert batch.id in {item.id for item in ai.batches.list(limit=5)}
    assert {ai.files.retrieve(name).purpose for name in (ended.output_file_id, ended.error_file_id)} == {"batch_output"}


def test_a_batch_that_is_over_cannot_be_cancelled_and_one_that_runs_can(ai):
    over = ai.batches.create(input_file_id=send(ai, requests(1)).id, endpoint=CHAT, completion_window="24h")
    assert done(ai, over.id).status == ai.batches.cancel(over.id).status == "completed"
    runs = ai.batches.create(input_file_id=send(ai, requests(20, IDLE)).id, endpoint=CHAT, completion_window="24h")
    assert ai.batches.cancel(runs.id).status in ("cancelling", "cancelled")
    ended = eventually(lambda: (b := ai.batches.retrieve(runs.id)).status == "cancelled" and b)
    assert ended.request_counts.completed + ended.request_counts.failed == 20


def test_a_file_in_use_is_not_deleted(ai):
    file = send(ai, requests(20, IDLE))
    batch = ai.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    with pytest.raises(openai.ConflictError, match=batch.id):
        ai.files.delete(file.id)
    ai.batches.cancel(batch.id)


def test_what_is_no_json_lines_is_told_as_what_it_is(ai):
    table = ("a.csv", b"question,answer\nName three rivers.,Oder\n")
    with pytest.raises(openai.BadRequestError, match="file: the file looks like CSV; headrace takes JSON Lines"):
        ai.files.create(file=table, purpose="batch")
    ai.files.delete(ai.files.create(file=table, purpose="user_data").id)


def test_a_key_makes_one_batch(ai):
    file = send(ai, requests(1))
    wanted = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h"}
    headers = {"Idempotency-Key": "order-1"}
    ids = {ai.batches.create(**wanted, extra_headers=headers).id for _ in range(2)}
    assert len(ids) == 1
    assert len({ai.batches.create(**wanted).id for _ in range(2)} | ids) == 3
    others = ({"input_file_id": send(ai, requests(2)).id}, {"metadata": {"a": "b"}}, {"completion_window": "2h"})
    for other in others:
        with pytest.raises(openai.ConflictError, match=f"the idempotency key belongs to {next(iter(ids))}"):
            ai.batches.create(**wanted | other, extra_headers=headers)


def test_an_input_must_be_a_batchs_and_not_empty(ai):
    other = ai.files.create(file=("x.jsonl", requests(1)), purpose="user_data")
    with pytest.raises(openai.BadRequestError, match="input_file_id: the file's purpose"):
        ai.batches.create(input_file_id=other.id, endpoint=CHAT, completion_window="24h")
    with pytest.raises(openai.BadRequestError, match="the file has no lines"):
        ai.batches.create(input_file_id=send(ai, b"\n").id, endpoint=CHAT, completion_window="24h")
    with pytest.raises(openai.NotFoundError, match="input_file_id"):
        ai.batches.create(input_file_id="file-none", endpoint=CHAT, completion_window="24h")


def test_what_a_file_cannot_be_is_refused_by_name(ai):
    with pytest.raises(openai.BadRequestError, match="purpose"):
        ai.files.create(file=("x", b"x"), purpose="surprise")
    with pytest.raises(openai.BadRequestError, match="surprise"):
        ai.files.create(file=("x", b"x"), purpose="batch", extra_body={"surprise": "1"})
    with pytest.raises(openai.BadRequestError, match="expires_after"):
        ai.files.create(file=("x", b"x"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 5})


def test_a_file_in_parts_is_one_file(ai):
    data = requests(3_000)
    made = ai.uploads.upload_file_chunked(
        file=data, filename="large.jsonl", bytes=len(data), mime_type="text/jsonl", purpose="batch",
        part_size=100_000, md5=hashlib.md5(data).hexdigest(),
    )  # fmt: skip
    assert (made.status, made.file.bytes, made.file.filename) == ("completed", len(data), "large.jsonl")
    assert ai.files.content(made.file.id).read() == data


def test_parts_are_joined_in_the_order_that_is_given(ai, gateway):
    upload = ai.uploads.create(bytes=6, filename="x", mime_type="text/plain", purpose="user_data")
    parts = [ai.uploads.parts.create(upload.id, data=text.encode()) for text in ("one", "two", "not")]
    done = ai.uploads.complete(upload.id, part_ids=[parts[1].id, parts[0].id])
    assert ai.files.content(done.file.id).read() == b"twoone"
    with pytest.raises(openai.ConflictError, match="is completed"):
        ai.uploads.parts.create(upload.id, data=b"late")
    folder = gateway.settings.home / "files" / "default" / upload.id
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize(
    ("ids", "options", "words"),
    [
        (["part_none"], {}, "is no part of this upload"),
        ([0, 0], {}, "comes twice"),
        ([0], {}, "3 bytes together, and 6 were announced"),
        ([0, 1], {"md5": "0" * 32}, "md5: that of the parts is"),
    ],
)
def test_what_is_not_what_was_announced_is_refused(ai, ids, options, words):
    upload = ai.uploads.create(bytes=6, filename="x", mime_type="text/plain", purpose="user_data")
    parts = [ai.uploads.parts.create(upload.id, data=text.encode()).id for text in ("one", "two")]
    wanted = [item if isinstance(item, str) else parts[item] for item in ids]
    with pytest.raises(openai.BadRequestError, match=words):
        ai.uploads.complete(upload.id, part_ids=wanted, **options)
    assert ai.uploads.complete(upload.id, part_ids=parts).status == "completed"


def in_parts(ai, *texts):
    """An upload that waits for its completion, and the ids of its parts."""
    size = sum(map(len, texts))
    upload = ai.uploads.create(bytes=size, filename="x", mime_type="text/plain", purpose="user_data")
    return upload.id, [ai.uploads.parts.create(upload.id, data=text.encode()).id for text in texts]


def test_the_same_completion_is_answered_the_same_and_no_other_is(ai):
    upload_id, parts = in_parts(ai, "one", "two")
    md5 = hashlib.md5(b"onetwo").hexdigest()
    done = ai.uploads.complete(upload_id, part_ids=parts, md5=md5)
    assert ai.uploads.complete(upload_id, part_ids=parts, md5=md5.upper()) == done
    for ids, options in ((parts[::-1], {"md5": md5}), (parts, {}), (parts, {"md5": "0" * 32}), (parts[:1], {})):
        with pytest.raises(openai.ConflictError, match="is completed, with other parts or another md5"):
            ai.uploads.complete(upload_id, part_ids=ids, **options)
    assert ai.files.content(done.file.id).read() == b"onetwo"
    ai.files.delete(done.file.id)
    with pytest.raises(openai.ConflictError, match="its file was deleted since"):
        ai.uploads.complete(upload_id, part_ids=parts, md5=md5)


def test_completions_at_the_same_time_make_one_file(ai):
    upload_id, parts = in_parts(ai, "one", "two")
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: ai.uploads.complete(upload_id, part_ids=parts), range(8)))
    assert len({item.file.id for item in done}) == 1


def test_parts_that_come_to_much_more_than_was_announced_are_refused(ai):
    upload = ai.uploads.create(bytes=3, filename="x", mime_type="text/plain", purpose="user_data")
    parts = [ai.uploads.parts.create(upload.id, data=b"one").id for _ in range(2)]
    with pytest.raises(openai.BadRequestError, match="have 6 bytes together, and 3 were announced: complete"):
        ai.uploads.parts.create(upload.id, data=b"one")
    assert ai.uploads.complete(upload.id, part_ids=parts[:1]).status == "completed"


def test_a_file_whose_bytes_are_gone_is_told_as_such(ai, gateway):
    made = send(ai, b"one\n")
    (path,) = (gateway.settings.home / "files" / "default" / made.id).iterdir()
    path.unlink()
    with pytest.raises(openai.NotFoundError, match="the content of this file was deleted meanwhile"):
        ai.files.content(made.id)
    assert ai.files.delete(made.id).deleted


def test_a_cancelled_upload_leaves_nothing(ai, gateway):
    upload = ai.uploads.create(bytes=6, filename="x", mime_type="text/plain", purpose="user_data")
    ai.uploads.parts.create(upload.id, data=b"one")
    assert ai.uploads.cancel(upload.id).status == "cancelled"
    assert not (gateway.settings.home / "files" / "default" / upload.id).exists()
    with pytest.raises(openai.ConflictError):
        ai.uploads.cancel(upload.id)


def test_scopes_are_asked_for(gateway):
    with openai.OpenAI(
        base_url=f"{gateway.url}/v1", api_key=gateway.key("default", FILES_READ), max_retries=0
    ) as reader:
        assert reader.files.list(limit=1) is not None
        with pytest.raises(openai.PermissionDeniedError):
            reader.batches.list()
        with pytest.raises(openai.PermissionDeniedError):
            reader.files.create(file=("x", io.BytesIO(b"x")), purpose="batch")


def test_a_line_names_its_parameter_with_openai_s_code(ai):
    """In the error file, as a request by itself would be told."""
    body = {"model": "echo", "messages": [{"role": "user", "content": "a"}]}
    lines = [
        {"method": "POST", "url": CHAT, "body": body},
        {"custom_id": "1", "method": "GET", "url": CHAT, "body": body},
        {"custom_id": "2", "method": "POST", "url": CHAT, "body": {**body, "colour": "red"}},
        {"custom_id": "3", "method": "POST", "url": CHAT, "body": {**body, "model": "no-such"}},
        {"custom_id": "4", "method": "POST", "url": CHAT, "body": {**body, "top_p": 7}},
    ]
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    batch = ai.batches.create(input_file_id=send(ai, data).id, endpoint=CHAT, completion_window="24h")
    ended = done(ai, batch.id)
    told = [json.loads(line)["error"] for line in ai.files.content(ended.error_file_id).text.splitlines()]
    assert [(item["code"], item["param"]) for item in told] == [
        ("missing_required_parameter", "custom_id"),
        ("invalid_value", "method"),
        ("unknown_parameter", "body.colour"),
        ("model_not_found", "body.model"),
        ("invalid_value", "body.top_p"),
    ]

import json
import time

from tests.services.node import Node
from tests.workers.http.served import Gateway

from headrace_workers.features.webhooks import signing

SCRIPT = """
import OpenAI from "openai";

const client = new OpenAI();
const messages = [{ role: "user", content: "Name three rivers." }];
const told = {};

const chat = await client.chat.completions.create({ model: "echo", messages, headrace: { priority: 7 } });
told.chat = [chat.choices[0].message.content, chat.headrace.status];

let streamed = "";
for await (const chunk of await client.chat.completions.create({ model: "echo", messages, stream: true })) {
  streamed += chunk.choices[0].delta.content ?? "";
}
told.streamed = streamed;

let response = await client.responses.create({ model: "echo", input: "Name three rivers.", background: true });
told.begun = response.status;
while (["queued", "in_progress"].includes(response.status)) {
  await new Promise((done) => setTimeout(done, 20));
  response = await client.responses.retrieve(response.id);
}
told.response = [response.status, response.output_text];

const moderation = await client.moderations.create({ input: "Write to ann@headrace.io." });
told.moderation = [moderation.results[0].flagged, moderation.results[0].categories.personal_data];

told.models = [];
for await (const model of client.models.list()) told.models.push(model.id);

try {
  await client.chat.completions.create({ model: "echo", messages, n: 2 });
} catch (error) {
  told.refused = [error.status, error.param];
}
console.log(JSON.stringify(told));
"""


def test_it_works_in_javascript(gateway: Gateway, node: Node):
    env = {"OPENAI_BASE_URL": f"{gateway.url}/v1", "OPENAI_API_KEY": gateway.key()}
    told = json.loads(node.run(SCRIPT, env=env))
    text = told["streamed"]
    assert "rivers" in text
    assert told["chat"] == [text, "completed"]
    assert told["begun"] == "queued"
    assert told["response"] == ["completed", text]
    assert told["moderation"] == [True, True]
    assert "echo" in told["models"]
    assert told["refused"] == [400, "n"]


RESOURCES = """
import OpenAI, { toFile } from "openai";

const client = new OpenAI();
const told = {};
const line = (n) => JSON.stringify({
  custom_id: `n${n}`, method: "POST", url: "/v1/chat/completions",
  body: { model: "echo", messages: [{ role: "user", content: `Name ${n} rivers.` }] },
});
const collect = async (pages) => {
  const found = [];
  for await (const each of pages) found.push(each.id);
  return found;
};

const sent = await toFile(Buffer.from(line(1) + "\\n"), "in.jsonl");
const file = await client.files.create({ file: sent, purpose: "batch" });
const read = await (await client.files.content(file.id)).text();
told.file = [(await client.files.retrieve(file.id)).filename, read === line(1) + "\\n"];
told.listed = (await collect(client.files.list({ limit: 1, purpose: "batch" }))).includes(file.id);

const text = line(1) + "\\n" + line(2) + "\\n";
const upload = await client.uploads.create({
  bytes: text.length, filename: "two.jsonl", mime_type: "application/jsonl", purpose: "batch",
});
const parts = [];
for (const data of [text.slice(0, 30), text.slice(30)]) {
  parts.push((await client.uploads.parts.create(upload.id, { data: await toFile(Buffer.from(data), "part") })).id);
}
const whole = await client.uploads.complete(upload.id, { part_ids: parts });
told.upload = [whole.status, whole.file.bytes === text.length];

let batch = await client.batches.create({
  input_file_id: whole.file.id, endpoint: "/v1/chat/completions", completion_window: "24h",
});
while (!["completed", "failed", "expired", "cancelled"].includes(batch.status)) {
  await new Promise((done) => setTimeout(done, 50));
  batch = await client.batches.retrieve(batch.id);
}
const output = await (await client.files.content(batch.output_file_id)).text();
told.batch = [batch.status, output.trim().split("\\n").map((each) => JSON.parse(each).custom_id).sort()];
told.batches = (await collect(client.batches.list())).includes(batch.id);

const grader = {
  type: "string_check", name: "same", input: "{{sample.output_text}}", reference: "{{item.q}}", operation: "eq",
};
const config = { type: "custom", item_schema: { type: "object" }, include_sample_schema: true };
const made = await client.evals.create({ name: "js", data_source_config: config, testing_criteria: [grader] });
const source = {
  type: "completions", model: "echo", source: { type: "file_content", content: [{ item: { q: "say" } }] },
  input_messages: { type: "template", template: [{ role: "user", content: "{{item.q}}" }] },
};
const ran = await client.evals.runs.create(made.id, { data_source: source });
const of = { eval_id: made.id };
let judged = ran;
while (!["completed", "failed", "canceled"].includes(judged.status)) {
  await new Promise((done) => setTimeout(done, 50));
  judged = await client.evals.runs.retrieve(ran.id, of);
}
told.eval = [judged.status, judged.result_counts.passed, (await client.evals.retrieve(made.id)).name];
told.evals = [(await collect(client.evals.list())).includes(made.id)];
told.evals.push((await collect(client.evals.runs.list(made.id))).length);
const items = await collect(client.evals.runs.outputItems.list(ran.id, of));
told.item = (await client.evals.runs.outputItems.retrieve(items[0], { ...of, run_id: ran.id })).status;
told.ended = (await client.evals.runs.cancel(ran.id, of)).status;
told.evalsGone = [(await client.evals.runs.delete(ran.id, of)).deleted, (await client.evals.delete(made.id)).deleted];
told.evalName = (await client.evals.create({ data_source_config: config, testing_criteria: [grader] })
  .then((each) => client.evals.update(each.id, { name: "new" }))).name;

const store = await client.vectorStores.create({ name: "Handbook", metadata: { team: "x" } });
const mill = await toFile(Buffer.from("A mill."), "mill.md");
const note = await client.files.create({ file: mill, purpose: "assistants" });
const set = await client.vectorStores.fileBatches.create(store.id, { file_ids: [note.id] });
const where = { vector_store_id: store.id };
told.set = [set.file_counts.total, await collect(client.vectorStores.fileBatches.listFiles(set.id, where))];
told.retrieved = (await client.vectorStores.fileBatches.retrieve(set.id, where)).id === set.id;
told.cancelled = (await client.vectorStores.fileBatches.cancel(set.id, where)).file_counts.cancelled;
told.inStore = (await client.vectorStores.files.create(store.id, { file_id: note.id })).status;
told.store = (await client.vectorStores.retrieve(store.id)).name;
told.removed = (await client.vectorStores.delete(store.id)).deleted;

const asked = { event_types: ["batch.completed"], name: "shop", url: "https://shop.example/" };
const receiver = await client.webhooks.create(asked);
const changed = await client.webhooks.update(receiver.id, { name: "new" });
const rotated = await client.webhooks.rotateSecret(receiver.id, { keep_old_secret_active_for_24_hours: true });
told.receiver = [changed.name, receiver.signing_secret !== rotated.signing_secret];
told.receivers = (await collect(client.webhooks.list())).includes(receiver.id);
told.types = (await client.webhooks.eventTypes.list()).data.includes("batch.completed");
told.forgotten = (await client.webhooks.delete(receiver.id)).deleted;
const event = await client.webhooks.unwrap(process.env.BODY, JSON.parse(process.env.HEADERS), process.env.SECRET);
told.event = event.type;
console.log(JSON.stringify({ ...told, ids: { note: note.id } }));
"""


def test_its_resources_work_in_javascript(gateway: Gateway, node: Node):
    secret = signing.new_secret("v1")
    body = b'{"type":"batch.completed","data":{"id":"batch_1"}}'
    signed = signing.headers("msg_1", int(time.time()), body, [secret])
    env = {
        "OPENAI_BASE_URL": f"{gateway.url}/v1", "OPENAI_API_KEY": gateway.key(), "BODY": body.decode(),
        "HEADERS": json.dumps(signed), "SECRET": secret,
    }  # fmt: skip
    told = json.loads(node.run(RESOURCES, env=env))
    ids = told.pop("ids")
    # Another test may have started who reads such files.
    assert (told.pop("cancelled"), told.pop("inStore")) in ((1, "in_progress"), (1, "completed"), (0, "completed"))
    assert told == {
        "file": ["in.jsonl", True], "listed": True, "upload": ["completed", True],
        "batch": ["completed", ["n1", "n2"]], "batches": True,
        "eval": ["completed", 1, "js"], "evals": [True, 1], "item": "pass", "ended": "completed",
        "evalsGone": [True, True], "evalName": "new",
        "set": [1, [ids["note"]]], "retrieved": True, "store": "Handbook",
        "removed": True, "receiver": ["new", True], "receivers": True, "types": True, "forgotten": True,
        "event": "batch.completed",
    }  # fmt: skip

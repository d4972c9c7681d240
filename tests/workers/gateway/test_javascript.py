"""The same gateway, asked by OpenAI's own client in JavaScript."""

import json

from tests.services.node import Node
from tests.workers.gateway.served import Gateway

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

const moderation = await client.moderations.create({ input: "Write to ann@example.com." });
told.moderation = [moderation.results[0].flagged, moderation.results[0].categories.email];

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
    """Answers, chunks, a response in the background, verdicts, models, and refusals by name."""
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

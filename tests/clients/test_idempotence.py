"""Which JavaScript clients may be idempotent, on which broker, as docs/how-to/publish-from-other-languages.md says."""

from headrace_schemas import Topic

KAFKAJS = """
import { Kafka, Partitioners, logLevel } from "kafkajs";
const [broker, topic] = process.argv.slice(2);
const kafka = new Kafka({ brokers: [broker], logLevel: logLevel.NOTHING, retry: { retries: 8 } });
const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner, idempotent: true });
try {
  await producer.connect();
  await producer.send({ topic, messages: [{ key: "k", value: "v" }] });
  console.log("sent");
} catch (error) {
  console.log(error.message);
}
await producer.disconnect();
"""

PLATFORMATIC = """
import { Producer } from "@platformatic/kafka";
const [broker, topic, ...compressions] = process.argv.slice(2);
const value = Buffer.from("v".repeat(1000));
for (const compression of compressions) {
  const producer = new Producer({
    clientId: "shop", bootstrapBrokers: [broker], idempotent: true, producerId: -1n, producerEpoch: -1,
  });
  await producer.send({ messages: [{ topic, key: Buffer.from("k"), value }], compression });
  await producer.close();
  console.log("sent", compression);
}
"""


def test_platformatic_is_idempotent_on_both(kafka, node):
    """With an id of -1, as other clients ask for a new one. One process of Node, slow to start, tries all three."""
    printed = node.run(PLATFORMATIC, kafka.address, kafka.topic(Topic.GENERATION), "none", "snappy", "lz4")
    assert printed == "sent none\nsent snappy\nsent lz4\n"


def test_kafkajs_is_idempotent_on_apache_kafka_alone(kafka, node, request):
    printed = node.run(KAFKAJS, kafka.address, kafka.topic(Topic.GENERATION))
    if request.node.callspec.params["kafka"] == "apache_kafka":
        assert printed == "sent\n"
    else:
        assert "unexpected error" in printed

"""The variables that producers and readers of results read, described for the page of all settings.

`settings.py` reads them. Nothing that runs imports this module.
"""

from typing import Final, NamedTuple

from headrace_producers.settings import DEFAULT_MODEL, DEFAULT_SOURCE, MECHANISMS, PROTOCOLS, ProducerSettings
from headrace_schemas.topics import DEFAULT_PREFIX


class Variable(NamedTuple):
    """Variable of the environment: its default, its allowed values, its effect (Markdown), and the processes that read
    it.
    """

    name: str
    default: str
    allowed: str
    does: str
    read_by: str


_ALL: Final = "producers, all processes and commands"
_ON_OFF: Final = "on, off"
_IN_MEMORY: Final = "`on`; `off` for the embedded broker that keeps its log in memory"

KAFKA: Final = (
    Variable("HEADRACE_KAFKA", "the running `headrace up`", "`host:port,host:port`", "Where Kafka is.", _ALL),
    Variable(
        "HEADRACE_TOPIC_PREFIX",
        f"`{DEFAULT_PREFIX}`",
        "",
        "Stands before each topic's name, and before all names in Redis: give each deployment on one Kafka or Redis "
        "its own. The ledger states it: a process with another refuses to start, see "
        "[move a deployment](how-to/back-up-and-restore.md#move-to-another-cluster-or-prefix).",
        _ALL,
    ),
    Variable(
        "HEADRACE_KAFKA_SECURITY_PROTOCOL", f"`{PROTOCOLS[0]}`", ", ".join(PROTOCOLS), "How to connect to Kafka.", _ALL
    ),
    Variable("HEADRACE_KAFKA_SASL_MECHANISM", "", ", ".join(MECHANISMS), "How to authenticate with SASL.", _ALL),
    Variable("HEADRACE_KAFKA_USERNAME", "", "", "The user's name for SASL.", _ALL),
    Variable("HEADRACE_KAFKA_PASSWORD", "", "", "The user's password for SASL.", _ALL),
    Variable("HEADRACE_KAFKA_CA_FILE", "the system's", "", "A PEM file with the authorities to trust.", _ALL),
    Variable(
        "HEADRACE_KAFKA_DURABLE",
        _IN_MEMORY,
        _ON_OFF,
        "`off`: the broker's log does not outlive it. A job is safe only once the ledger has it, and `submit` and the "
        "gateway wait for that.",
        "bridges, gateways and commands",
    ),
    Variable(
        "HEADRACE_KAFKA_GROUPS",
        _IN_MEMORY,
        _ON_OFF,
        "`off`: the broker's consumer groups cannot be relied on. Readers of results then share nothing, and bridges "
        "do not tell the broker how far they are (they know it from the ledger). Consumers then also ask for short "
        "waits while there is something to hear, because that broker answers a waiting fetch late.",
        _ALL,
    ),
)
JOBS: Final = (
    Variable(
        "HEADRACE_MODEL",
        f"the first model of a running `headrace up`, else `{DEFAULT_MODEL}`",
        "",
        "The model. `headrace up` serves it, too.",
        "producers and commands",
    ),
    Variable(
        "HEADRACE_TENANT",
        f"`{ProducerSettings().tenant}`",
        "",
        "The tenant that a job belongs to.",
        "producers, commands, and gateways without keys",
    ),
    Variable(
        "HEADRACE_SOURCE",
        f"`{DEFAULT_SOURCE}`",
        "a URI reference",
        "CloudEvents `source`: the service that sends the job.",
        "producers and commands",
    ),
)

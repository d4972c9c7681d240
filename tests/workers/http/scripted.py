"""A worker that answers as a script says: clients see every kind of end, whatever a model can."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Final

from jsonschema_rs import validator_for
from sqlalchemy import select
from tests.workers.http.served import IDLE, Gateway, answer, fail

from headrace_schemas import GenerationJob
from headrace_schemas.codec import decode_job
from headrace_schemas.errors import Unavailable
from headrace_schemas.output_format import JsonSchemaFormat
from headrace_schemas.tool import NamedTool, ToolCall
from headrace_workers.core.sql.database import reading
from headrace_workers.core.tables import JOBS

TENANT: Final = "scripted"
TICKET: Final[dict[str, Any]] = {"title": "The wheel is stuck", "urgency": 3}
# What a client may have made of the same schema.
_VALUES: Final[tuple[dict[str, Any], ...]] = (TICKET, {"response": TICKET}, {"city": "Bern"})


@contextmanager
def scripted(gateway: Gateway) -> Iterator[str]:
    """Answer the jobs that this key's tenant sends to the model `IDLE`, until the end of the block.

    A question that has the word "truncated", "unparsable" or "unsatisfiable" ends so; others are answered in the format
    of their job, or by a call of its tool.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(1, "scripted") as threads:
        work = threads.submit(_work, gateway, stop)
        try:
            yield gateway.key(TENANT)
        finally:
            stop.set()
            work.result()  # and why it ended, where nobody had told it to


def jobs_about(gateway: Gateway, text: str) -> int:
    """Return how many jobs of the tenant have a question with this text."""
    query = select(JOBS.c.payload).where(JOBS.c.tenant == TENANT)
    with gateway.services.ledger.engine.connect() as connection:
        return sum(text.encode() in payload for (payload,) in connection.execute(query))


def _work(gateway: Gateway, stop: threading.Event) -> None:
    ledger = gateway.services.ledger
    query = select(JOBS.c.id, JOBS.c.kind, JOBS.c.payload).where(
        JOBS.c.tenant == TENANT, JOBS.c.state == "active", JOBS.c.kind == "generation"
    )
    while not stop.wait(0.02):
        with suppress(Unavailable):  # then it looks again, as a worker does
            with reading(ledger.engine) as connection:
                rows = connection.execute(query).all()
            for row in rows:
                job = decode_job(row.kind, row.payload)
                assert isinstance(job, GenerationJob)
                if job.first_model == IDLE:
                    _end(gateway, row.id, job)


def _end(gateway: Gateway, job_id: str, job: GenerationJob) -> None:
    ledger, question = gateway.services.ledger, job.question
    if "truncated" in question:
        fail(ledger, job_id, "truncated")
    elif "unparsable" in question:
        fail(ledger, job_id, "unparsable", "/urgency")
    elif "unsatisfiable" in question:
        fail(ledger, job_id, "unsatisfiable")
    elif job.tools and job.tool_choice != "none" and job.conversation[-1].role != "tool":
        name = job.tool_choice.name if isinstance(job.tool_choice, NamedTool) else job.tools[0].name
        schema = next(tool.parameters for tool in job.tools if tool.name == name)
        call = ToolCall(id=f"call_{job_id}", name=name, arguments=_valid(schema))
        answer(ledger, job_id, None, finish_reason="tool_calls", tool_calls=[call])
    elif isinstance(job.output, JsonSchemaFormat):
        answer(ledger, job_id, _valid(job.output.json_schema))
    elif job.output is not None:
        answer(ledger, job_id, json.dumps(TICKET))
    else:
        answer(ledger, job_id, f"The last turn was: {job.conversation[-1].content}")


def _valid(schema: dict[str, Any]) -> str:
    """Return a value of a client's schema as JSON: the ticket, or what the client makes of it."""
    validator = validator_for(schema)
    return json.dumps(next(entry for entry in _VALUES if validator.is_valid(entry)))

"""Records that are refused, and what is told of them."""

import json
import re

from tests.workers.runtime.bridge.records import record

from headrace_schemas import Category
from headrace_workers.core.ledger.dead_letters import INGEST, Burial, letter

GOOD = record().headers


def value(**changes):
    """A generation job's JSON with fields changed; None drops one."""
    fields = {"model": "echo", "prompt": "hello"} | changes
    return json.dumps({name: field for name, field in fields.items() if field is not None}).encode()


def refused(found, reason=""):
    """A refusal with this reason, which can be announced."""
    assert isinstance(found, Burial)
    late = " has passed" in found.reason
    assert found.category is (Category.EXPIRED if late else Category.INVALID)
    assert (found.stage, found.attempts, found.job_id) == (INGEST, 0, None)
    assert found.reason
    assert re.search(reason, found.reason), found.reason
    assert letter(found).size == len(found.value)
    return found

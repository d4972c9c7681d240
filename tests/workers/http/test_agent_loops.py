"""Loops of the frameworks that people build agents with, unmodified, of a provider's model that answers by a script."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.chaos.deployment import Deployment
from tests.clients.agent_loops import LOOPS, run_loops
from tests.services.node import Node
from tests.services.provider import Provider, Reply, providing
from tests.services.python_clients import PythonClients
from tests.workers.http.served import Gateway
from tests.workers.models.engines.remote_models import catalogue

pytestmark = pytest.mark.slow

REPORT = {"city": "Bern", "degrees": 21}


def agent(_provider: Provider, reply: Reply) -> None:
    """Call the tool `weather` for a question, and report what it returned."""
    body = reply.heard.body
    names = [tool["function"]["name"] for tool in body.get("tools", ())]
    turn, asked = body["messages"][-1], json.dumps(body["messages"])
    reply.start()
    if "[[ ##" in asked:
        reply.text("\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in _fields(asked).items()))
    elif names and turn["role"] != "tool":
        reply.call("c", "weather", '{"city": "Bern"}')
    elif "final_result" in names:
        reply.call("c", "final_result", json.dumps(REPORT))
    else:
        reply.text(json.dumps(REPORT) if "response_format" in body else "Bern has 21 degrees.")
    reply.end()


def _fields(asked: str) -> dict[str, object]:
    """Return what dspy is told: it offers no tools, but asks for texts in fields."""
    if "next_tool_name" not in asked:
        return {"reasoning": "The tool said so.", **REPORT}
    if "21 degrees" in asked:
        return {"next_thought": "That is all.", "next_tool_name": "finish", "next_tool_args": "{}"}
    return {"next_thought": "I ask.", "next_tool_name": "weather", "next_tool_args": '{"city": "Bern"}'}


@pytest.fixture(scope="module")
def told(
    gateway: Gateway, deployment: Deployment, python_clients: PythonClients, node: Node
) -> Iterator[dict[str, Any]]:
    with providing(agent) as provider:
        catalogue(deployment.folder, "openai", provider.url, alias="scripted")
        deployment.start("remote")
        env = {"OPENAI_BASE_URL": f"{gateway.url}/v1", "OPENAI_API_KEY": gateway.key(), "MODEL": "scripted"}
        yield run_loops(python_clients, node, env)
        deployment.retire("remote")


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_calls_its_tool_and_reports(told: dict[str, Any], loop: str) -> None:
    assert told[loop] == {"report": REPORT, "asked": ["Bern"]}

"""Loops of agents, unmodified, with a small real model: each ends with a value of the caller's type."""

import re
from pathlib import Path

import pytest
from tests.acceptance.conftest import running
from tests.clients.agent_loops import LOOPS, run_loops
from tests.services.eventually import eventually
from tests.services.node import Node
from tests.services.python_clients import PythonClients
from tests.services.qwen import path as qwen_path

from headrace_workers.features.generation.models.convert import convert

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

# What a loop raises whose model calls the tool again and again, or writes no fields of the form that it is asked for.
GIVES_UP = {"langgraph": "GraphRecursionError", "dspy": "AdapterParseError"}


def test_agents_of_a_small_model_end_with_a_report(python_clients: PythonClients, node: Node, tmp_path: Path) -> None:
    """Some models answer without the tool, or call it twice. Where they must call it, the report says what it said."""
    if not qwen_path().is_file():
        pytest.skip("Qwen2.5-Coder 0.5B is needed: make qwen")
    convert(str(qwen_path()), "qwen", tmp_path / ".headrace", "int8")
    with running(tmp_path, "--gateway-port", "0", HEADRACE_MODEL="qwen"):
        [url] = eventually(lambda: re.findall(r"OPENAI_BASE_URL=(\S+)", (tmp_path / "up.log").read_text("utf-8")))
        key = (tmp_path / ".headrace" / "api-key").read_text(encoding="utf-8").strip()
        told = run_loops(python_clients, node, {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": key, "MODEL": "qwen"})
    assert told.keys() == set(LOOPS)
    for loop, end in told.items():
        assert end.get("error") == GIVES_UP.get(loop, "") or end.get("report", {}).get("city") == "Bern", (loop, end)
    for loop in ("openai-agents", "openai-agents by chats"):
        assert told[loop] == {"report": {"city": "Bern", "degrees": 21}, "asked": ["Bern"]}

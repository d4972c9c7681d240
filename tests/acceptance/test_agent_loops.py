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

from headrace_workers.models.convert import convert

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

# What a loop raises whose model calls the tool again and again, or writes no fields of the form that it is asked for.
GIVES_UP = {"GraphRecursionError", "AdapterParseError", "MaxTurnsExceeded", "UnexpectedModelBehavior"}


def test_agents_of_a_small_model_end_with_a_report(python_clients: PythonClients, node: Node, tmp_path: Path) -> None:
    """What a small model writes depends on the CPU. It may leave the tool out, or call it until its loop gives up. But
    a report has the caller's type, and no loop ends for a fault of the gateway.
    """
    if not qwen_path().is_file():
        pytest.skip("Qwen2.5-Coder 0.5B is needed: make qwen")
    convert(str(qwen_path()), "qwen", tmp_path / ".headrace", "int8")
    with running(tmp_path, "--gateway-port", "0", HEADRACE_MODEL="qwen"):
        [url] = eventually(lambda: re.findall(r"OPENAI_BASE_URL=(\S+)", (tmp_path / "up.log").read_text("utf-8")))
        key = (tmp_path / ".headrace" / "api-key").read_text(encoding="utf-8").strip()
        told = run_loops(python_clients, node, {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": key, "MODEL": "qwen"})
    assert told.keys() == set(LOOPS)
    reports = [end["report"] for end in told.values() if "report" in end]
    assert [end for end in told.values() if "report" not in end and end.get("error") not in GIVES_UP] == []
    assert reports
    assert {(type(report["city"]), type(report["degrees"])) for report in reports} == {(str, int)}

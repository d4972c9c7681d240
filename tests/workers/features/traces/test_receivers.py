"""MLflow and Phoenix take our traces, show tokens, and keep one trace of what is sent twice: `make receivers`."""

import sys
import time
from pathlib import Path

import httpx
import pytest
from tests.services.server import Server
from tests.workers.features.traces.test_traces import answered, duty, end, ledger, running

from headrace_workers.features.traces.store import Exported, Traces
from headrace_workers.runtime.embedded.child_processes import ChildSpec
from headrace_workers.runtime.embedded.free_ports import free_ports

__all__ = ["ledger", "running"]
pytestmark = pytest.mark.slow

_FOLDER = Path(sys.prefix) / "receivers" / "bin"


class _At:
    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/v1/traces"


def serve(tmp_path, program, *arguments, port, healthy, env=None):
    if not (_FOLDER / program).exists():
        pytest.skip(f"no {program}: run `make receivers`")

    def is_ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}{healthy}").is_success
        except httpx.TransportError:
            return False

    folder = tmp_path / program
    folder.mkdir()
    argv = [str(_FOLDER / program), *arguments]
    return Server(ChildSpec(name=program, argv=argv, env=env, ready=is_ready), folder).start()


def export_twice(running, ledger, at):
    end(running, answered, 3)
    exporter = duty(ledger, at)
    assert exporter.once() == (False, None)
    ledger.of(Traces).move(Exported(0, ""))
    assert exporter.once() == (False, None)


def eventually(read, wanted):
    deadline = time.monotonic() + 60
    while (seen := read()) != wanted and time.monotonic() < deadline:
        time.sleep(0.5)
    assert seen == wanted


def test_mlflow_shows_tokens_and_cost(running, ledger, tmp_path, monkeypatch):
    (port,) = free_ports(1)
    store = f"sqlite:///{tmp_path}/mlflow.db"
    arguments = ("server", "--port", str(port), "--backend-store-uri", store, "--workers", "1")
    server = serve(tmp_path, "mlflow", *arguments, port=port, healthy="/health")
    try:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-mlflow-experiment-id=0")
        export_twice(running, ledger, _At(port))
        place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}

        def shown():
            answer = httpx.post(f"http://127.0.0.1:{port}/api/3.0/mlflow/traces/search", json={"locations": [place]})
            told = [trace.get("trace_metadata", {}) for trace in answer.json().get("traces", ())]
            return [(about.get("mlflow.trace.tokenUsage"), about.get("mlflow.trace.cost")) for about in told]

        tokens = '{"input_tokens": 30, "output_tokens": 12, "total_tokens": 42, "cache_read_input_tokens": 4}'
        cost = '{"input_cost": 0.0, "output_cost": 0.0, "total_cost": 0.0015}'
        eventually(shown, [(tokens, cost)] * 3)
    finally:
        server.stop()


def test_phoenix_shows_tokens(running, ledger, tmp_path):
    port, grpc = free_ports(2)
    env = {"PHOENIX_WORKING_DIR": str(tmp_path), "PHOENIX_PORT": str(port), "PHOENIX_GRPC_PORT": str(grpc)}
    server = serve(tmp_path, "phoenix", "serve", port=port, healthy="/healthz", env=env)
    try:
        export_twice(running, ledger, _At(port))
        query = "{projects{edges{node{traceCount recordCount tokenCountTotal}}}}"

        def shown():
            answer = httpx.post(f"http://127.0.0.1:{port}/graphql", json={"query": query}).json()
            return [edge["node"] for edge in answer["data"]["projects"]["edges"]]

        eventually(shown, [{"traceCount": 3, "recordCount": 12, "tokenCountTotal": 126.0}])
    finally:
        server.stop()

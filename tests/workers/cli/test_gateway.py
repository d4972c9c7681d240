import socket

import pytest
from tests.workers.cli.conftest import Call

from headrace_workers.core.ledger.ledger import Ledger


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.com", "::"])
def test_without_keys_it_listens_on_loopback_alone(call: Call, host: str):
    code, _, err = call("gateway", "--without-keys", "--host", host)
    assert code == 2
    assert "--without-keys" in err


def test_a_port_that_is_taken_is_told(call: Call, ledger: Ledger, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_KAFKA", "127.0.0.1:1")
    monkeypatch.setenv("HEADRACE_REDIS", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("HEADRACE_LEDGER", f"sqlite:///{tmp_path / '.headrace' / 'ledger.db'}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = call("gateway", "--port", str(port))
    assert code == 2
    assert f"cannot listen on 127.0.0.1:{port}" in err

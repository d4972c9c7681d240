import shutil
import socket

import pytest
import redis as client

from headrace_schemas.errors import ConfigurationError
from headrace_workers.runtime.embedded import stack as embedded
from headrace_workers.runtime.embedded.child_processes import ChildSpec, start, stop
from headrace_workers.runtime.embedded.free_ports import free_ports


@pytest.fixture(params=["path", "wheel"])
def binary(request, monkeypatch):
    if request.param == "wheel":
        monkeypatch.setattr(shutil, "which", lambda _name: None)
    return embedded.redis_binary()


def test_it_answers_on_loopback_and_writes_no_file(binary, tmp_path):
    folder = tmp_path / "redis"
    folder.mkdir()
    server = embedded.redis(binary, folder, free_ports(1)[0])
    child = start(ChildSpec(name="redis", argv=server.argv, ready=server.ready), tmp_path / "log")
    with client.Redis.from_url(server.url) as connection:
        connection.set("a", "b")
        assert connection.get("a") == b"b"
        assert connection.config_get("save") == {"save": ""}
        assert connection.config_get("bind")["bind"] == "127.0.0.1"
    stop(child)
    assert list(folder.iterdir()) == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))


def test_without_any_the_ways_are_named(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    monkeypatch.setattr(embedded, "_from_wheel", lambda: None)
    with pytest.raises(ConfigurationError, match="HEADRACE_REDIS"):
        embedded.redis_binary()

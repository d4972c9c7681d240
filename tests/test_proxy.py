import socket
import threading

import pytest
from tests.services.eventually import eventually
from tests.services.proxy import close_listener, proxied


@pytest.fixture
def echo():
    server = socket.create_server(("127.0.0.1", 0))

    def answer(connection):
        with connection:
            while data := connection.recv(4096):
                connection.sendall(data)

    def serve():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield server.getsockname()[1]
    close_listener(server)


@pytest.fixture
def proxy(echo):
    with proxied(echo) as proxy:
        yield proxy


def connect(proxy):
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=60)


def ask(client, said=b"hello"):
    client.sendall(said)
    return client.recv(4096)


def silent(client):
    """Whether nothing comes, and nothing ends."""
    client.settimeout(0.3)
    try:
        return client.recv(4096) == "never"
    except TimeoutError:
        return True
    finally:
        client.settimeout(60)


def ended(client):
    try:
        return not ask(client)
    except OSError:
        return True


def test_everything_is_passed_on(proxy):
    with connect(proxy) as one, connect(proxy) as two:
        assert ask(one, b"1") == b"1"
        assert ask(two, b"2") == b"2"
        assert proxy.connections == 2
    eventually(lambda: proxy.connections == 0)


@pytest.mark.parametrize("direction", ["both", "up", "down"])
def test_what_is_swallowed_is_acknowledged_and_gone(proxy, direction):
    with connect(proxy) as old:
        assert ask(old) == b"hello"
        proxy.swallow(direction)
        with connect(proxy) as young:
            for number, client in enumerate((old, young), start=1):
                client.sendall(b"lost")
                eventually(lambda number=number: proxy.robbed == number)
                assert silent(client)
        proxy.heal()
        old.sendall(b"lost too")
        assert silent(old)
    with connect(proxy) as whole:
        assert ask(whole) == b"hello"


@pytest.mark.parametrize("direction", ["both", "up", "down"])
def test_what_is_held_comes_when_it_heals(proxy, direction):
    with connect(proxy) as client:
        proxy.hold(direction)
        client.sendall(b"late")
        assert silent(client)
        proxy.heal()
        assert client.recv(4) == b"late"


def test_a_cut_ends_what_is_open_and_lets_others_in(proxy):
    with connect(proxy) as client, connect(proxy) as whole:
        assert ask(client) == ask(whole) == b"hello"
        proxy.cut()
        eventually(lambda: ended(client) and ended(whole))
    with connect(proxy) as client:
        assert ask(client) == b"hello"


def test_what_is_delayed_comes(proxy):
    proxy.delay(0.05)
    with connect(proxy) as client:
        assert ask(client) == b"hello"


def test_behind_its_end_nobody_is_let_in(echo):
    with proxied(echo) as proxy, connect(proxy) as client:
        assert ask(client) == b"hello"
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)

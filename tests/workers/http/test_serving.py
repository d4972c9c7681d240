import asyncio
import resource
import socket

import pytest

from headrace_workers.wiring.http_server import listen


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_what_is_written_is_sent_at_once(host: str):
    async def accepted() -> int:
        future = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(lambda _, writer: future.set_result(writer), sock=listening)
        async with server:
            _, client = await asyncio.open_connection(*listening.getsockname()[:2])
            writer = await future
            flag: int = writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            writer.close()
            client.close()
            return flag

    try:
        listening = listen(host, 0)
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert asyncio.run(accepted())


def test_a_thousand_may_wait_whatever_a_shell_allows():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, most), hard))
        listen("127.0.0.1", 0).close()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == most
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

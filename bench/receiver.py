"""A receiver of webhooks in a process of its own: `python -m bench.receiver PORT`. What is below /dead gets no answer.

It is asked over the same port: GET /wait/PREFIX/COUNT says how many came below this path, once they are so many, or
after some seconds. GET /seen gives `path id seconds` for each, by the clock of the whole machine, and forgets them.
Nobody has to ask again and again, which would take time from what is measured.
"""

import asyncio
import sys
import time

_ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
_LONGEST = 5.0  # seconds of waiting
_seen: list[tuple[str, str, float]] = []
_more = asyncio.Event()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, path, _ = head.split(" ", 2)
            if method == "GET":
                await _tell(path, writer)
                continue
            fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            await reader.readexactly(int(fields["content-length"]))
            if path.startswith("/dead"):
                await reader.read()  # until the other side has had enough
                return
            _seen.append((path, fields["webhook-id"], time.time()))
            _more.set()
            writer.write(_ANSWER)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def _tell(path: str, writer: asyncio.StreamWriter) -> None:
    if path.startswith("/wait/"):
        _, _, prefix, count = path.split("/")
        body = str(await _wait(f"/{prefix}", int(count)))
    else:
        body = "\n".join(f"{where} {name} {at:.6f}" for where, name, at in _seen)
        _seen.clear()
    writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())


async def _wait(prefix: str, count: int) -> int:
    until = time.monotonic() + _LONGEST
    while True:
        number = len(_seen) if len(_seen) < count else sum(path.startswith(prefix) for path, _, _ in _seen)
        if number >= count or time.monotonic() >= until:
            return number
        _more.clear()
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + until - time.monotonic()):
                await _more.wait()
        except TimeoutError:
            pass


async def _main(port: int) -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", port, backlog=1_024)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))

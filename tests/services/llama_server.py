"""llama.cpp's server in a process of its own: `python -m tests.services.llama_server FILE.gguf`."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def llama_server(gguf: Path) -> Iterator[str]:
    """Serve this model while the body runs; the address."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.services.llama_server", str(gguf)],
        cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert child.stdout is not None
        address = next((line.split()[1] for line in child.stdout if line.startswith("listening ")), "")
        assert address, "llama.cpp's server has not started"
        threading.Thread(target=child.stdout.read, daemon=True).start()  # else a full pipe would hold it up
        yield address
    finally:
        child.kill()
        child.wait()


def main(gguf: str) -> None:
    """Serve until the process is killed."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = gguf
    params.n_ctx = 2048
    params.n_parallel = 2
    params.cpuparams.n_threads = 1
    params.port = 0
    server = xllamacpp.Server(params)
    print("listening", server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1])

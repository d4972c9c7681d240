import os
import resource
import signal
import sys

import pytest
from tests.workers.features.knowledge.pdfs import pdf

from headrace_workers.features.knowledge import converting
from headrace_workers.features.knowledge.documents import DocumentRefused
from headrace_workers.features.knowledge.reading import Converter

pytestmark = pytest.mark.integration

PAGE = b"<p>text</p>"


def pid_of(converter: Converter) -> int:
    assert converter._process is not None
    return converter._process.pid


def test_what_hangs_is_ended() -> None:
    with Converter(time_limit=60) as converter:
        assert converter.convert(PAGE, ".html") == "text"
        stopped = pid_of(converter)
        os.kill(stopped, signal.SIGSTOP)
        converter._time_limit = 0.05
        with pytest.raises(DocumentRefused, match="takes too long"):
            converter.convert(PAGE, ".html")
        converter._time_limit = 60
        assert converter.convert(PAGE, ".html") == "text"
        assert pid_of(converter) != stopped
        with pytest.raises(ProcessLookupError):
            os.kill(stopped, 0)


def test_a_program_that_dies_is_replaced() -> None:
    with Converter(time_limit=60) as converter:
        converter.convert(PAGE, ".html")
        assert converter._process is not None
        os.kill(pid_of(converter), signal.SIGKILL)
        converter._process.wait()
        with pytest.raises(DocumentRefused, match="died"):
            converter.convert(PAGE, ".html")
        assert converter.convert(PAGE, ".html") == "text"


def test_a_process_with_a_thousand_open_files_reads_documents() -> None:
    """A gateway has as many connections; `select.select` takes no descriptor above 1,023."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4_096), hard))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1_100)]
    try:
        with Converter(time_limit=60) as converter:
            assert converter.convert(PAGE, ".html") == "text"
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_memory_is_limited() -> None:
    with Converter(time_limit=60, memory=200 << 20) as converter:
        with pytest.raises(DocumentRefused, match="memory"):
            converter.convert(b"<p>" + b"word " * 12_000_000, ".html")
        assert converter.convert(PAGE, ".html") == "text"


def test_one_program_reads_many_documents() -> None:
    with Converter(time_limit=60) as converter:
        converter.convert(PAGE, ".html")
        pid = pid_of(converter)
        with pytest.raises(DocumentRefused):
            converter.convert(b"no document", ".docx")
        assert converter.convert(pdf(["text"]), ".pdf").strip() == "text"
        assert pid_of(converter) == pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pptx", None)
    with pytest.raises(DocumentRefused, match=r"pip install 'markitdown\[pptx\]'"):
        converting.office_to_markdown(b"PK", ".pptx")
    monkeypatch.setitem(sys.modules, "markitdown", None)
    with pytest.raises(DocumentRefused, match=r"pip install 'headrace\[knowledge\]'"):
        converting.office_to_markdown(pdf(["text"]), ".pdf")

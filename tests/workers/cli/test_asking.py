import gzip
from pathlib import Path

import pytest

from headrace_workers.cli.asking import opened
from headrace_workers.core.text_file import NotReadable


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_what_is_no_json_lines_is_told_as_what_it_is(tmp_path: Path, pack):
    path = tmp_path / "jobs"
    path.write_bytes(pack(b"question,answer\nName three rivers.,Oder\n"))
    with pytest.raises(NotReadable, match=rf"^{path} looks like CSV"), opened(str(path)):
        pass


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_file_stands_at_its_beginning(tmp_path: Path, pack):
    path = tmp_path / "jobs"
    path.write_bytes(pack(b'{"prompt": "a"}\n'))
    with opened(str(path)) as (text, name):
        assert (text.read(), name) == (b'{"prompt": "a"}\n', str(path))

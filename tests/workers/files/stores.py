"""The stores that files may lie in, each empty."""

import pytest
from tests.services.s3 import s3_server

from headrace_workers.files.object_store import Store


@pytest.fixture(scope="module")
def s3():
    """The URL of an S3 server with a bucket `headrace`."""
    with s3_server("headrace") as url:
        yield url


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request, tmp_path, monkeypatch):
    if request.param == "folder":
        return Store.at(str(tmp_path / "files"))
    if request.param == "memory":
        return Store.at(f"memory://{tmp_path.name}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "tests")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("s3"))
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    return Store.at(f"s3://headrace/{tmp_path.name}")

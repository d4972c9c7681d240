"""An S3 server of our own: moto's, in a thread."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def s3_server(bucket: str) -> Iterator[str]:
    """A server with an empty bucket; its URL."""
    pytest.importorskip("moto.server", reason="moto[server] is needed")
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        known = {"aws_access_key_id": "tests", "aws_secret_access_key": "tests", "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=url, **known).create_bucket(Bucket=bucket)
        yield url
    finally:
        server.stop()

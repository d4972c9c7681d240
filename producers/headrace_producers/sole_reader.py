"""A lock that allows one reader a group and machine, for a broker whose groups are not reliable."""

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from headrace_producers.settings import KafkaSettings
from headrace_schemas.errors import Unavailable


class SoleReader:
    """Being the only reader of a group on this machine, until `release` or the end of the process.

    The embedded broker serves one machine, so a lock on a file is all that it takes. Raises Unavailable while another
    reader has it.
    """

    def __init__(self, kafka: KafkaSettings, group: str) -> None:
        import fcntl

        identity = "\n".join((kafka.address, kafka.prefix, group)).encode()
        path = Path(tempfile.gettempdir()) / f"headrace-group-{hashlib.sha256(identity).hexdigest()[:24]}.lock"
        self._path = path
        while True:
            try:
                self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            except OSError as error:
                reason = f"{path} cannot be opened, which locks the group {group!r}: {error.strerror}"
                raise Unavailable(reason) from error
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(self._file)
                raise Unavailable(
                    f"the group {group!r} has a reader: on the embedded broker there is one at a time. Without a group "
                    "each reader sees everything; Apache Kafka shares (see docs/reference/python-client.md)"
                ) from error
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path), os.fstat(self._file)):
                    return
            os.close(self._file)  # the reader before removed the file after it was opened here

    def release(self) -> None:
        """Remove the file, and let another be the reader, even if a child that this process forked holds the file."""
        import fcntl

        with suppress(OSError):
            self._path.unlink()
        fcntl.flock(self._file, fcntl.LOCK_UN)
        os.close(self._file)

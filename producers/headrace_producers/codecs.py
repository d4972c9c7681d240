"""Unpacking record batches: every codec that Kafka's clients write, bounded in what comes out.

kafka-python needs three more packages for it, 30 MB of them, and refuses zstd frames above 1 MiB that do not say their
size, as Java's clients write them. cramjam does all in 5 MB.
"""

from collections.abc import Callable

import cramjam

# Of one batch. Producers bound a batch at 1 MB before it is packed, and topics at some MB after: this would be a bomb.
MAX_UNPACKED_BYTES = 64 * 1024**2

_XERIAL = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16
_ROOM = (1024**2, 8 * 1024**2, MAX_UNPACKED_BYTES)  # to try in turn: what is small need not clear 64 MB
_TOO_SMALL = "failed to write whole buffer"


class CannotUnpack(Exception):
    """A batch is packed in a way that cannot be undone; the message says why."""


def unpack(codec: int, data: bytes) -> bytes:
    """Return data decompressed by the codec of this number in a batch's attributes. Raise CannotUnpack with the
    reason.
    """
    if codec not in _CODECS:
        raise CannotUnpack(f"its compression has the number {codec}, which no version of Kafka knows")
    name, undo = _CODECS[codec]
    try:
        return undo(data)
    except cramjam.DecompressionError as error:
        raise CannotUnpack(f"it is said to be {name}, and is not: {str(error)[:200]}") from error


def _framed(into: Callable[[bytes, bytearray], int]) -> Callable[[bytes], bytes]:
    def undo(data: bytes) -> bytes:
        for size in _ROOM:
            room = bytearray(size)
            try:
                return bytes(memoryview(room)[: into(data, room)])
            except cramjam.DecompressionError as error:
                if _TOO_SMALL not in str(error):
                    raise
        raise _too_large()

    return undo


def _snappy(data: bytes) -> bytes:
    """Decompress one block, or the blocks in snappy-java's frame, which most clients write."""
    if not data.startswith(_XERIAL):
        return _block(data, MAX_UNPACKED_BYTES)
    parts, left, place = [], MAX_UNPACKED_BYTES, _XERIAL_HEADER_BYTES
    while place < len(data):
        end = place + 4 + int.from_bytes(data[place : place + 4], "big")
        parts.append(_block(data[place + 4 : end], left))
        left -= len(parts[-1])
        place = end
    return b"".join(parts)


def _block(data: bytes, limit: int) -> bytes:
    if cramjam.snappy.decompress_raw_len(data) > limit:
        raise _too_large()
    return bytes(cramjam.snappy.decompress_raw(data))


def _too_large() -> CannotUnpack:
    return CannotUnpack(f"it unpacks to more than {MAX_UNPACKED_BYTES} bytes")


_CODECS: dict[int, tuple[str, Callable[[bytes], bytes]]] = {
    1: ("gzip", _framed(cramjam.gzip.decompress_into)),
    2: ("snappy", _snappy),
    3: ("lz4", _framed(cramjam.lz4.decompress_into)),
    4: ("zstd", _framed(cramjam.zstd.decompress_into)),
}

"""Chunks of an MCAP file opened within bounds: what a chunk claims to unpack to is judged before it is unpacked."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import zstandard
from lz4.frame import LZ4FrameDecompressor
from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, McapRecord, Message, Schema

from robin_perception.core.errors import Code, RobinError

MOST_CHUNK_BYTES = 64 << 20
"""Of one chunk when unpacked, and of one record: a raw colour image of 4096 x 4096 pixels is 48 MiB."""
_FREE_BYTES, _BYTES_PER_BYTE = 256_000_000, 100
_FREE_RECORDS, _BYTES_PER_RECORD = 100_000, 16
_HEAD = struct.Struct("<BQ")  # opcode, length
_RECORDS: dict[int, Callable[[ReadDataStream, int], McapRecord]] = {
    Opcode.SCHEMA: lambda data, _: Schema.read(data),
    Opcode.CHANNEL: lambda data, _: Channel.read(data),
    Opcode.MESSAGE: Message.read,
}


@dataclass
class UnpackBudget:
    """How much a file may unpack to in one reading: a real recording shrinks a few times, a bomb a thousand times."""

    source: str
    bytes_left: int
    records_left: int

    @classmethod
    def of(cls, source: str, size: int) -> UnpackBudget:
        """For a file of ``size`` bytes."""
        return cls(source, _FREE_BYTES + _BYTES_PER_BYTE * size, _FREE_RECORDS + size // _BYTES_PER_RECORD)

    def spend(self, unpacked: int = 0, records: int = 0) -> None:
        """Raises RobinError INPUT_TOO_LARGE."""
        self.bytes_left -= unpacked
        self.records_left -= records
        if min(self.bytes_left, self.records_left) < 0:
            raise RobinError(Code.INPUT_TOO_LARGE, f"{self.source}: unpacks to more than its size can hold")


def chunk_records(chunk: Chunk, budget: UnpackBudget) -> Iterator[McapRecord]:
    """Schemas, channels and messages of a chunk. Raises RobinError INPUT_TOO_LARGE; ValueError, struct.error or an
    error of its compression where it is damaged, before anything of a chunk with a checksum is given."""
    if chunk.uncompressed_size > MOST_CHUNK_BYTES:
        claim = f"a chunk claims {chunk.uncompressed_size:,} bytes, {MOST_CHUNK_BYTES:,} are allowed"
        raise RobinError(Code.INPUT_TOO_LARGE, f"{budget.source}: {claim}")
    budget.spend(chunk.uncompressed_size)
    data = _unpacked(chunk)
    if len(data) != chunk.uncompressed_size or chunk.uncompressed_crc not in (0, zlib.crc32(data)):
        raise ValueError("a chunk's content is not what it was written with")
    at = 0
    while at < len(data):
        opcode, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        if length > len(data) - at:
            raise ValueError("a record ends outside its chunk")
        budget.spend(records=1)
        read = _RECORDS.get(opcode)
        if read is not None:
            yield read(ReadDataStream(io.BytesIO(data[at : at + length])), length)
        at += length


def _unpacked(chunk: Chunk) -> bytes:
    if chunk.compression == "zstd":
        if zstandard.frame_content_size(chunk.data) > MOST_CHUNK_BYTES:  # the library trusts it more than any limit
            raise ValueError("the compressed frame claims more than its chunk")
        return zstandard.ZstdDecompressor().decompress(chunk.data, max_output_size=chunk.uncompressed_size)
    if chunk.compression == "lz4":
        return bytes(LZ4FrameDecompressor().decompress(chunk.data, max_length=chunk.uncompressed_size + 1))
    if chunk.compression:
        raise ValueError(f"compression '{chunk.compression[:20]}' is not known")
    return chunk.data

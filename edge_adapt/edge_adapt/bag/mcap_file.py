"""One MCAP file in the ``ros2`` profile: zstd chunks with message indexes, a summary at the end.

A chunk is written in one piece and is then readable whatever happens next: a kill loses at most the chunk being filled,
a power cut at most what came after the last fsync. On a write error the file is cut back to its last whole chunk, the
summary is written if there is room for it, and every later call is refused with the same reason.
"""

from __future__ import annotations

import os
import time
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import zstandard
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Channel,
    Chunk,
    ChunkIndex,
    DataEnd,
    Footer,
    Header,
    McapRecord,
    Message,
    MessageIndex,
    Schema,
    Statistics,
    SummaryOffset,
)
from pydantic import Field

from robin_perception.bags.definitions import full_text
from robin_perception.core.config import StrictConfig
from robin_perception.core.disk import write_error
from robin_perception.core.errors import RobinError

MAGIC = b"\x89MCAP0\r\n"
PROFILE = "ros2"


class StorageConfig(StrictConfig):
    """How a bag is laid out on disk. A chunk is closed when it is full or old enough."""

    zstd_level: int = Field(3, ge=1, le=19, description="1 fast .. 19 small")
    chunk_bytes: int = Field(4 << 20, ge=1 << 10, le=16 << 20, description="before compression")
    chunk_seconds: float = Field(0.5, ge=0, le=60, description="age of a chunk's first message: what a kill may cost")
    sync_seconds: float = Field(1.0, ge=0, le=60, description="between two fsyncs: what a power cut may cost")


@dataclass
class _Topic:
    channel: Channel
    schema: Schema
    count: int = 0
    written_in_chunk: bool = False


class McapFile:
    """Writes one file. Owned by one thread. ``path`` must not exist."""

    def __init__(self, path: Path, library: str, config: StorageConfig | None = None) -> None:
        """Raises RobinError DISK_FULL or OPTION_INVALID."""
        self.path = path
        self.config = config or StorageConfig()
        self.start_ns = 0
        self.end_ns = 0
        self._compressor = zstandard.ZstdCompressor(level=self.config.zstd_level)
        self._topics: dict[str, _Topic] = {}
        self._schemas: dict[str, Schema] = {}
        self._chunks: list[ChunkIndex] = []
        self._failure: RobinError | None = None
        self._closed = False
        self._new_chunk()
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except OSError as exc:
            raise write_error(path, exc) from None
        self._end = 0
        self._synced = time.monotonic()
        self._append(MAGIC + _bytes(Header(PROFILE, library)))

    @property
    def counts(self) -> dict[str, int]:
        """Messages by topic."""
        return {name: topic.count for name, topic in self._topics.items()}

    @property
    def size_bytes(self) -> int:
        """What is in the file by now."""
        return self._end

    def add_topic(self, topic: str, message_type: str, qos: str, definition: str | None = None) -> None:
        """qos: YAML text of the offered profiles. definition: the schema's text, None for the one that is shipped."""
        if topic in self._topics:
            return
        schema = self._schemas.get(message_type)
        if schema is None:
            text = full_text(message_type) if definition is None else definition
            schema = Schema(len(self._schemas) + 1, text.encode(), "ros2msg", message_type)
            self._schemas[message_type] = schema
        info = {"offered_qos_profiles": qos, "topic_type_hash": ""}
        self._topics[topic] = _Topic(Channel(len(self._topics) + 1, topic, "cdr", info, schema.id), schema)

    def write(self, topic: str, data: bytes, log_ns: int, publish_ns: int | None = None) -> None:
        """Add one message of a known topic. Raises RobinError (DISK_FULL, ...) now and ever after a failed write."""
        if self._failure is not None:
            raise self._failure
        known = self._topics[topic]
        if not known.written_in_chunk:  # each chunk explains itself, so that any whole chunk can be read
            known.schema.write(self._chunk)
            known.channel.write(self._chunk)
            known.written_in_chunk = True
        self._index.setdefault(known.channel.id, []).append((log_ns, self._chunk.count))
        Message(known.channel.id, log_ns, data, log_ns if publish_ns is None else publish_ns, known.count).write(
            self._chunk
        )
        known.count += 1
        self._times.append(log_ns)
        if len(self._times) == 1:
            self._opened = time.monotonic()
        aged = time.monotonic() - self._opened >= self.config.chunk_seconds
        if aged or self._chunk.count >= self.config.chunk_bytes:
            self.finish_chunk()

    def finish_chunk(self) -> None:
        """Put what is pending into the file. Raises RobinError."""
        if self._failure is not None:
            raise self._failure
        if not self._times:
            return
        raw = self._chunk.end()
        packed = self._compressor.compress(raw)
        low, high = min(self._times), max(self._times)
        record = _bytes(
            Chunk(
                "zstd",
                packed,
                message_end_time=high,
                message_start_time=low,
                uncompressed_crc=zlib.crc32(raw),
                uncompressed_size=len(raw),
            )
        )
        indexes, offsets = bytearray(), {}
        for channel, entries in self._index.items():
            offsets[channel] = self._end + len(record) + len(indexes)
            indexes += _bytes(MessageIndex(channel, entries))
        start = self._end
        self._append(record + bytes(indexes))
        self._chunks.append(
            ChunkIndex(
                chunk_length=len(record),
                chunk_start_offset=start,
                compression="zstd",
                compressed_size=len(packed),
                message_end_time=high,
                message_index_length=len(indexes),
                message_index_offsets=offsets,
                message_start_time=low,
                uncompressed_size=len(raw),
            )
        )
        self.start_ns = low if len(self._chunks) == 1 else min(self.start_ns, low)
        self.end_ns = max(self.end_ns, high)
        self._new_chunk()

    def close(self) -> None:
        """Write the summary and close. After a failed write only the file is closed. Raises RobinError."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._failure is None:
                self.finish_chunk()
                self._append(self._summary())
        finally:
            os.close(self._file)

    def _new_chunk(self) -> None:
        self._chunk = RecordBuilder()
        self._index: dict[int, list[tuple[int, int]]] = {}
        self._times: list[int] = []
        self._opened = 0.0
        for topic in self._topics.values():
            topic.written_in_chunk = False

    def _append(self, data: bytes) -> None:
        try:
            _write_all(self._file, data)
            now = time.monotonic()
            if now - self._synced >= self.config.sync_seconds or self._closed:
                os.fsync(self._file)
                self._synced = now
        except OSError as exc:
            self._failure = write_error(self.path, exc)
            self._cut_back()
            raise self._failure from None
        self._end += len(data)

    def _cut_back(self) -> None:
        """Drop the half-written piece; its room is usually enough for the summary."""
        for topic, lost in self._pending_counts().items():
            self._topics[topic].count -= lost
        os.ftruncate(self._file, self._end)
        os.lseek(self._file, self._end, os.SEEK_SET)
        try:
            _write_all(self._file, self._summary())
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._end)

    def _pending_counts(self) -> dict[str, int]:
        by_channel = {topic.channel.id: name for name, topic in self._topics.items()}
        return {by_channel[channel]: len(entries) for channel, entries in self._index.items()}

    def _summary(self) -> bytes:
        """DataEnd, summary section, footer and magic, for the file as long as it is now."""
        end = _bytes(DataEnd(0))
        start = self._end + len(end)
        channels = [topic.channel for topic in self._topics.values()]
        groups: list[tuple[Opcode, list[McapRecord]]] = [
            (Opcode.SCHEMA, list(self._schemas.values())),
            (Opcode.CHANNEL, list(channels)),
            (Opcode.STATISTICS, [self._statistics()]),
            (Opcode.CHUNK_INDEX, list(self._chunks)),
        ]
        section, offsets = bytearray(), bytearray()
        for opcode, records in groups:
            if not records:
                continue
            data = b"".join(_bytes(record) for record in records)
            offsets += _bytes(SummaryOffset(opcode, start + len(section), len(data)))
            section += data
        body = bytes(section + offsets)
        footer = _bytes(Footer(start, start + len(section), 0))
        crc = zlib.crc32(footer[:-4], zlib.crc32(body))
        return end + body + footer[:-4] + crc.to_bytes(4, "little") + MAGIC

    def _statistics(self) -> Statistics:
        counts = Counter({topic.channel.id: topic.count for topic in self._topics.values()})
        return Statistics(
            attachment_count=0,
            channel_count=len(self._topics),
            channel_message_counts=dict(counts),
            chunk_count=len(self._chunks),
            message_count=counts.total(),
            message_end_time=self.end_ns,
            message_start_time=self.start_ns,
            metadata_count=0,
            schema_count=len(self._schemas),
        )


def _bytes(record: McapRecord) -> bytes:
    builder = RecordBuilder()
    record.write(builder)
    return bytes(builder.end())


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]

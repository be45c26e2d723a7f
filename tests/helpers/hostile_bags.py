"""Bags that nobody would record, written record by record."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import zstandard
from mcap.data_stream import RecordBuilder
from mcap.records import Channel, Chunk, DataEnd, Footer, Header, McapRecord, Message, Schema

from robin_perception.bags import cdr
from robin_perception.bags.definitions import full_text

MAGIC = b"\x89MCAP0\r\n"


def bag_bytes(*records: McapRecord) -> bytes:
    """A whole file of the ros2 profile with these records in its data section."""
    builder = RecordBuilder()
    end = (DataEnd(0), Footer(0, 0, 0))
    for record in (Header(profile="ros2", library=""), *records, *end):
        record.write(builder)
    return MAGIC + builder.end() + MAGIC


def channel(number: int, topic: str, kind: str, text: str | None = None) -> tuple[Schema, Channel]:
    """Schema and channel of ``topic``; text: its definition, else the shipped one."""
    data = (full_text(kind) if text is None else text).encode()
    schema = Schema(id=number, data=data, encoding="ros2msg", name=kind)
    return schema, Channel(id=number, topic=topic, message_encoding="cdr", metadata={}, schema_id=number)


def message(number: int, data: bytes) -> Message:
    return Message(channel_id=number, log_time=1, data=data, publish_time=1, sequence=0)


def encoded_message(number: int, kind: str, **values: Any) -> Message:
    return message(number, cdr.encode(kind, values))


def packed(content: bytes, claims: int | None = None, compression: str = "zstd") -> Chunk:
    """A chunk of ``content``; claims: the size that it says to unpack to."""
    data = zstandard.ZstdCompressor(level=1).compress(content) if compression == "zstd" else content
    size = len(content) if claims is None else claims
    return Chunk(
        compression, data, message_end_time=1, message_start_time=1, uncompressed_crc=0, uncompressed_size=size
    )


def repeated_message(number: int, count: int) -> bytes:
    """Content of a chunk: ``count`` empty messages."""
    return (struct.pack("<BQHIQQ", 5, 22, number, 0, 1, 1)) * count


def write_bag(path: Path, *records: McapRecord) -> Path:
    path.write_bytes(bag_bytes(*records))
    return path

"""Reads MCAP bags as rosbag2 writes them: a folder with ``metadata.yaml`` and files, or one file.

A bag whose recorder was killed has no summary, perhaps half a chunk at its end: everything before is read and
``warnings`` says what was left out. A bag that cannot be one ends in one numbered error.
"""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import EndOfFile, McapError
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, Footer, Header, McapRecord, Message, Schema
from mcap.stream_reader import CRCValidationError

from robin_perception.bags import cdr
from robin_perception.bags.chunks import MOST_CHUNK_BYTES, UnpackBudget, chunk_records
from robin_perception.bags.definitions import Definitions, parse_foreign_text
from robin_perception.core.bounded import parse_yaml, read_plain_text, require_plain_file, shown
from robin_perception.core.errors import Code, RobinError

_MAGIC = b"\x89MCAP0\r\n"
_HEAD = struct.Struct("<BQ")  # opcode, length
_RECORDS: dict[int, Callable[[ReadDataStream, int], McapRecord]] = {
    Opcode.HEADER: lambda data, _: Header.read(data),
    Opcode.FOOTER: lambda data, _: Footer.read(data),
    Opcode.SCHEMA: lambda data, _: Schema.read(data),
    Opcode.CHANNEL: lambda data, _: Channel.read(data),
    Opcode.MESSAGE: Message.read,
    Opcode.CHUNK: lambda data, _: Chunk.read(data),
}
_LONGEST_NAME = 255  # no file system takes a longer one, and asking for it is an error of its own
_SQLITE = b"SQLite format 3\x00"
_DAMAGE = (
    McapError,
    CRCValidationError,
    struct.error,
    zstandard.ZstdError,
    UnicodeDecodeError,
    ValueError,
    MemoryError,
)


@dataclass(frozen=True)
class BagMessage:
    """One message as recorded. type: 'package/msg/Name'. log_ns: when it was received. data: CDR."""

    topic: str
    type: str
    log_ns: int
    data: bytes
    definitions: Definitions

    def values(self) -> cdr.Message:
        """Decoded. Raises RobinError BAG_INVALID when the data do not fit the bag's own definition."""
        try:
            return cdr.decode(self.type, self.data, self.definitions)
        except ValueError as exc:
            raise RobinError(Code.BAG_INVALID, f"{self.topic}: {exc}") from None


class BagReader:
    """One bag. ``messages`` may be called several times; each pass reads the files from their start."""

    def __init__(self, path: Path) -> None:
        """Raises RobinError INPUT_MISSING, INPUT_UNREADABLE or BAG_INVALID (another format, or nothing of a bag)."""
        self.path = path
        self.files, missing = _bag_files(path)
        self._missing = [f"{name}: listed in metadata.yaml, but not there" for name in missing]
        self.warnings: list[str] = [*self._missing]
        for file in self.files:
            _check_magic(file)

    def messages(self, topics: Collection[str] | Mapping[str, Collection[str]] | None = None) -> Iterator[BagMessage]:
        """Messages in the order they were written, of ``topics`` or of all. A mapping says which types a topic may
        have: their shipped fields are then all there, with values of the shipped kinds.

        Raises RobinError BAG_INVALID when the file is another profile than ros2, INPUT_UNREADABLE for the disk,
        INPUT_TOO_LARGE where it unpacks to more than it can hold.
        """
        self.warnings[:] = self._missing
        for file in self.files:
            yield from _Pass(self, file, topics).messages()

    @property
    def left_out(self) -> str:
        """The warnings, to stand behind the reason of a refusal; empty where there are none."""
        return f" ({'; '.join(self.warnings)})" if self.warnings else ""

    def topics(self) -> dict[str, tuple[str, int]]:
        """topic -> (type, messages), counted by reading the bag."""
        found: dict[str, tuple[str, int]] = {}
        for message in self.messages():
            found[message.topic] = (message.type, found.get(message.topic, ("", 0))[1] + 1)
        return found


class _Pass:
    """One reading of one file."""

    def __init__(
        self, reader: BagReader, file: Path, topics: Collection[str] | Mapping[str, Collection[str]] | None
    ) -> None:
        self._reader, self._file, self._topics = reader, file, topics
        self._schemas: dict[int, Schema] = {}
        self._channels: dict[int, Channel] = {}
        self._definitions: dict[int, Definitions | None] = {}  # by channel, of those that are read

    def messages(self) -> Iterator[BagMessage]:
        for record in self._records():
            if isinstance(record, Schema):
                if self._schemas.get(record.id) != record:
                    self._definitions.clear()  # told anew: what was judged before holds no longer
                self._schemas[record.id] = record
            elif isinstance(record, Channel):
                if self._channels.get(record.id) != record:
                    self._definitions.pop(record.id, None)
                self._channels[record.id] = record
            elif isinstance(record, Message):
                found = self._message(record)
                if found is not None:
                    yield found

    def _records(self) -> Iterator[McapRecord]:
        """Records of the data section, chunks opened; ends with a warning where the file does."""
        try:
            stream = self._file.open("rb")
        except OSError as exc:
            raise RobinError(Code.INPUT_UNREADABLE, f"{self._file}: {exc.strerror or exc}") from None
        with stream:
            size = self._file.stat().st_size
            budget = UnpackBudget.of(str(self._file), size)
            records, complete = raw_records(stream, size), False
            while True:
                try:
                    record = next(records)
                except StopIteration:
                    break
                except _DAMAGE:
                    break
                except OSError as exc:
                    raise RobinError(Code.INPUT_UNREADABLE, f"{self._file}: {exc.strerror or exc}") from None
                complete = complete or isinstance(record, Footer)
                if isinstance(record, Header):
                    self._check_profile(record)
                elif isinstance(record, Chunk):
                    yield from self._opened(record, budget)
                else:
                    yield record
            if not complete:
                self._warn(
                    "the file was not closed (the recorder was killed, or the disk was full): read up to its end"
                )

    def _check_profile(self, header: Header) -> None:
        if header.profile != "ros2":
            text = f"{self._file}: profile '{header.profile}', a ROS 2 bag (profile 'ros2') is needed"
            raise RobinError(Code.BAG_INVALID, text)

    def _opened(self, chunk: Chunk, budget: UnpackBudget) -> Iterator[McapRecord]:
        try:
            yield from chunk_records(chunk, budget)
        except (*_DAMAGE, EndOfFile):
            self._warn("a damaged chunk was left out")

    def _message(self, record: Message) -> BagMessage | None:
        channel = self._channels.get(record.channel_id)
        if channel is None or channel.message_encoding != "cdr":
            return None
        if self._topics is not None and channel.topic not in self._topics:
            return None
        if channel.id not in self._definitions:
            self._definitions[channel.id] = self._parsed(channel)
        definitions = self._definitions[channel.id]
        if definitions is None:
            return None
        name = self._schemas[channel.schema_id].name
        return BagMessage(channel.topic, name, record.log_time, record.data, definitions)

    def _parsed(self, channel: Channel) -> Definitions | None:
        schema = self._schemas.get(channel.schema_id)
        if schema is None or schema.encoding != "ros2msg":
            self._warn(f"{channel.topic}: no ros2msg definition, left out")
            return None
        if isinstance(self._topics, Mapping) and schema.name not in (allowed := self._topics[channel.topic]):
            self._warn(f"{channel.topic}: holds {schema.name}, not {' or '.join(allowed)}, left out")
            return None
        try:
            return parse_foreign_text(schema.name, schema.data.decode())
        except ValueError as exc:
            self._warn(f"{channel.topic}: definition of {schema.name} not understood ({exc}), left out")
            return None

    def _warn(self, text: str) -> None:
        line = f"{self._file.name}: {text}"
        if line not in self._reader.warnings:
            self._reader.warnings.append(line)


def raw_records(stream: BinaryIO, size: int) -> Iterator[McapRecord]:
    """Records of a file of ``size`` bytes, up to the footer or to where the file breaks off, chunks closed. No record
    begins with 0: a tail of zeros, laid out by the file system before the power went, ends the reading."""
    stream.seek(len(_MAGIC))
    while len(head := stream.read(_HEAD.size)) == _HEAD.size:
        opcode, length = _HEAD.unpack(head)
        if opcode == 0 or length > min(size - stream.tell(), MOST_CHUNK_BYTES):
            return
        read = _RECORDS.get(opcode)
        if read is None:
            stream.seek(length, os.SEEK_CUR)
            continue
        yield read(ReadDataStream(io.BytesIO(stream.read(length))), length)
        if opcode == Opcode.FOOTER:
            return


def _bag_files(path: Path) -> tuple[list[Path], list[str]]:
    """The files of a bag that are there, and the names of those that its metadata lists beside them."""
    if path.is_file():
        return [path], []
    if not path.is_dir():
        raise RobinError(Code.INPUT_MISSING, f"{path}: no such bag")
    listed = _listed_files(path / "metadata.yaml")
    files = [path / name for name in listed] if listed else sorted(path.glob("*.mcap"), key=_natural)
    found = [file for file in files if file.is_file()]
    if not found:
        raise RobinError(Code.BAG_INVALID, f"{path}: holds no .mcap file")
    return found, [file.name for file in files if file not in found]


def _listed_files(metadata: Path) -> list[str]:
    """Names in metadata.yaml; none when it is missing (the recorder was killed) or damaged. Refuses other storages; an
    empty name, as rosbag2 may write it, is none: the files themselves tell."""
    try:
        information = parse_yaml(read_plain_text(metadata), str(metadata))["rosbag2_bagfile_information"]
        storage, names = information["storage_identifier"], [str(name) for name in information["relative_file_paths"]]
    except (RobinError, KeyError, TypeError):
        return []
    if storage not in ("mcap", ""):
        raise RobinError(
            Code.BAG_INVALID, f"{metadata.parent}: storage {shown(storage)}; convert it with ros2 bag convert"
        )
    return list(dict.fromkeys(Path(name).name for name in names if len(name) <= _LONGEST_NAME))


def _natural(path: Path) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]


def _check_magic(file: Path) -> None:
    require_plain_file(file)
    try:
        with file.open("rb") as stream:
            start = stream.read(16)
    except OSError as exc:
        raise RobinError(Code.INPUT_UNREADABLE, f"{file}: {exc.strerror or exc}") from None
    if start.startswith(_SQLITE):
        raise RobinError(Code.BAG_INVALID, f"{file}: an sqlite3 bag; convert it to mcap with ros2 bag convert")
    if not start.startswith(_MAGIC):
        raise RobinError(Code.BAG_INVALID, f"{file}: not an MCAP file" + ("" if start else " (empty)"))

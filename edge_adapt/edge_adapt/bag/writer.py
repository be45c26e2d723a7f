"""Writes bags that ``ros2 bag``, Foxglove and ``robin replay`` read: a folder with one MCAP file and metadata.yaml."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from edge_adapt.bag.mcap_file import McapFile, StorageConfig
from edge_adapt.bag.rosbag2 import METADATA_FILE, Qos, TopicInfo, metadata_text
from robin_perception.bags import cdr
from robin_perception.core.disk import make_folder, write_atomic
from robin_perception.core.errors import Code, RobinError

LIBRARY = "robin-edge"


def require_new_folder(folder: Path) -> None:
    """A bag goes into a folder of its own. Raises RobinError OPTION_INVALID."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RobinError(Code.OPTION_INVALID, f"{folder}: exists already; a bag needs a new folder")


@dataclass
class BagWriter:
    """One bag. Owned by one thread; see ``BackgroundBagWriter`` for recording beside a running pipeline.

    After a failed write (DISK_FULL, ...) every later call raises the same error; what was written stays readable.
    custom: key -> text for metadata.yaml's ``custom_data``.
    """

    folder: Path
    storage: StorageConfig = field(default_factory=StorageConfig)
    custom: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises RobinError OPTION_INVALID for a folder that holds something, DISK_FULL."""
        require_new_folder(self.folder)
        make_folder(self.folder)
        self._file = McapFile(self.folder / f"{self.folder.name}_0.mcap", LIBRARY, self.storage)
        self._topics: dict[str, tuple[str, Qos]] = {}
        self._closed = False

    @property
    def path(self) -> Path:
        """The MCAP file."""
        return self._file.path

    @property
    def size_bytes(self) -> int:
        return self._file.size_bytes

    @property
    def counts(self) -> dict[str, int]:
        """Messages by topic."""
        return self._file.counts

    def add_topic(self, topic: str, message_type: str, qos: Qos = Qos(), definition: str | None = None) -> None:
        """Make a topic known. definition: full ros2msg text of a type that this project does not ship."""
        if topic not in self._topics:
            self._topics[topic] = (message_type, qos)
            self._file.add_topic(topic, message_type, qos.text(), definition)

    def write(self, topic: str, values: Mapping[str, Any], log_ns: int) -> None:
        """Encode and add a message of a known topic. Raises RobinError."""
        self.write_cdr(topic, cdr.encode(self._topics[topic][0], values), log_ns)

    def write_cdr(self, topic: str, data: bytes, log_ns: int) -> None:
        """Add a message that is CDR already. Raises RobinError."""
        self._file.write(topic, data, log_ns)

    def flush(self) -> None:
        """Put what is pending into the file, so that a kill cannot take it. Raises RobinError."""
        self._file.finish_chunk()

    def close(self) -> None:
        """Finish the file, then metadata.yaml. Raises RobinError when the last piece could not be written."""
        if self._closed:
            return
        self._closed = True
        try:
            self._file.close()
        finally:
            with contextlib.suppress(RobinError):  # a bag without metadata.yaml is still read
                self._write_metadata()

    def _write_metadata(self) -> None:
        topics = [TopicInfo(name, kind, qos, self._file.counts[name]) for name, (kind, qos) in self._topics.items()]
        file = self._file
        text = metadata_text(file.path.name, topics, file.start_ns, file.end_ns, self.custom)
        write_atomic(self.folder / METADATA_FILE, text)

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if exc is None:
            self.close()
        else:
            with contextlib.suppress(RobinError):
                self.close()

"""Images and arrays from a stranger's bytes: the header is judged before anything of its size is made."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from tokenize import TokenError
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_perception.core.bounded import shown
from robin_perception.core.errors import Code, RobinError

IMAGE_BYTES = 64_000_000
MOST_PIXELS = 4096 * 4096
MOST_SCANS = 100
"""Of a progressive JPEG; each is decoded over the whole picture."""
_ZIP_DAMAGE = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error)
_LIBRARIES = (
    "libpng ",
    "Corrupt JPEG",
    "Premature end of JPEG",
    "Invalid ",
    "Warning: ",
    "Inconsistent ",
    "[ WARN:",
    "[ERROR:",
)
_JPEG_DAMAGE = ("Corrupt JPEG", "Premature end of JPEG")
_STDERR_LOCK = threading.Lock()
_HEADER_DAMAGE = (SyntaxError, TokenError, MemoryError, RecursionError)  # numpy reads it with Python's own parser
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def image_size(data: bytes, source: str) -> tuple[int, int]:
    """(width, height) that a PNG's or JPEG's header tells. Raises RobinError INPUT_UNREADABLE for another kind."""
    found = None
    if data.startswith(_PNG) and data[12:16] == b"IHDR" and len(data) >= 24:
        found = struct.unpack(">II", data[16:24])
    elif data.startswith(_JPEG):
        found = _jpeg_size(data)
    if found is None:
        raise RobinError(Code.INPUT_UNREADABLE, f"{source}: not a readable image (PNG or JPEG)")
    return int(found[0]), int(found[1])


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Of the first frame header; its segments are walked, as pictures of other sizes may lie in them."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _JPEG_SIZES:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 1 if marker == 0xFF else 2 + length
    return None


def decode_image(data: bytes, source: str, flags: int = cv2.IMREAD_UNCHANGED) -> NDArray[Any]:
    """PNG or JPEG as OpenCV gives it (BGR). Raises RobinError INPUT_UNREADABLE, INPUT_TOO_LARGE; before decoding where
    the header claims more than MOST_PIXELS."""
    width, height = image_size(data, source)
    if width * height > MOST_PIXELS or not width or not height:
        text = f"{source}: {width} x {height} pixels, {MOST_PIXELS:,} in all are allowed"
        raise RobinError(Code.INPUT_TOO_LARGE, text)
    # A PNG that was cut short decodes to a partly black picture; only its missing end tells.
    cut_short = data.startswith(_PNG) and b"IEND" not in data[-16:]
    endless = data.startswith(_JPEG) and data.count(b"\xff\xda") > MOST_SCANS
    image, told = (None, "") if cut_short or endless else _decoded(data, flags)
    if image is None or any(word in told for word in _JPEG_DAMAGE):
        reason = f" ({told.strip()})" if told.strip() else ""
        raise RobinError(Code.INPUT_UNREADABLE, f"{source}: not a readable image{reason}")
    return np.asarray(image)


def _decoded(data: bytes, flags: int) -> tuple[NDArray[Any] | None, str]:
    """The picture, and what libpng and libjpeg wrote to the process's stderr meanwhile: they know no other way to tell,
    and a JPEG that was damaged still decodes. What others wrote in that time is handed on."""
    with _STDERR_LOCK, _captured_stderr() as told:
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error:
            image = None
    lines = told.text.splitlines(keepends=True)
    others = [line for line in lines if not line.startswith(_LIBRARIES)]
    if others:
        os.write(2, "".join(others).encode())
    return image, "".join(line for line in lines if line not in others)


@dataclass
class _Told:
    text: str = ""


@contextlib.contextmanager
def _captured_stderr() -> Iterator[_Told]:
    told = _Told()
    try:
        kept, memory = os.dup(2), os.memfd_create("stderr")
    except OSError:  # it is closed: there is nothing to capture
        yield told
        return
    try:
        os.dup2(memory, 2)
        yield told
    finally:
        os.dup2(kept, 2)
        os.lseek(memory, 0, os.SEEK_SET)
        told.text = os.read(memory, 65536).decode(errors="replace")
        os.close(kept)
        os.close(memory)


def parse_npy(data: bytes, source: str) -> NDArray[Any]:
    """The array of a .npy file's bytes, a view of them. Raises RobinError INPUT_UNREADABLE where its header claims
    another size than there are bytes, or holds objects."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        readers: dict[tuple[int, int], Callable[..., Any]] = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, fortran, dtype = readers[version](stream)
        if dtype.hasobject:
            raise ValueError("holds Python objects, only plain numbers and text are read")
        count = 1
        for size in shape:
            count *= size
        body = memoryview(data)[stream.tell() :]
        if count < 0 or count * dtype.itemsize != len(body):
            raise ValueError(f"{len(body)} bytes for shape {shown(shape)} of {dtype}")
        return np.frombuffer(body, dtype, count).reshape(shape, order="F" if fortran else "C")
    except (*_HEADER_DAMAGE, ValueError, TypeError, KeyError, EOFError, struct.error) as exc:
        raise RobinError(Code.INPUT_UNREADABLE, f"{source}: not a .npy array: {exc}") from None


def parse_npz(data: bytes, source: str, most_bytes: int) -> dict[str, NDArray[Any]]:
    """Arrays of a .npz file by name, ``most_bytes`` in all when unpacked. Raises RobinError INPUT_UNREADABLE,
    INPUT_TOO_LARGE."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
                raise ValueError("packed in another way than stored or deflated")  # one block of it may be gigabytes
            if sum(member.file_size for member in members) > most_bytes:
                raise RobinError(Code.INPUT_TOO_LARGE, f"{source}: more than {most_bytes:,} bytes when unpacked")
            unpacked = {member.filename: archive.read(member) for member in members}
    except (*_ZIP_DAMAGE, NotImplementedError, RuntimeError, ValueError, OSError, EOFError) as exc:
        raise RobinError(Code.INPUT_UNREADABLE, f"{source}: not a .npz file: {exc}") from None
    return {name.removesuffix(".npy"): parse_npy(body, f"{source}: {name}") for name, body in unpacked.items()}

"""Files of a stranger: only plain ones are read, and no size is believed before it is bounded."""

from __future__ import annotations

import io
import os
import socket
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from robin_perception.core.bounded import parse_json, parse_yaml, read_plain_bytes, read_plain_text, shown
from robin_perception.core.bounded_arrays import MOST_PIXELS, decode_image, image_size, parse_npy, parse_npz
from robin_perception.core.config import StrictConfig, load_config
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.image_folder import load_camera, load_frame_files

PIXELS = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)


def code_of(call: Any, *arguments: Any) -> Code:
    with pytest.raises(RobinError) as refused:
        call(*arguments)
    assert "\n" not in str(refused.value)
    return refused.value.code


def test_only_plain_files_of_bounded_size_are_read(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(b"12345")
    assert read_plain_bytes(plain, 5) == b"12345"
    (tmp_path / "link").symlink_to(plain)
    assert read_plain_bytes(tmp_path / "link", 5) == b"12345"
    assert code_of(read_plain_bytes, plain, 4) is Code.INPUT_TOO_LARGE
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for name in ("pipe", "zero", "socket", "loop", ".", "a" * 300, "nul\0"):
            assert code_of(read_plain_bytes, tmp_path / name, 5) is Code.INPUT_UNREADABLE, name
    assert code_of(read_plain_bytes, tmp_path / "none", 5) is Code.INPUT_MISSING
    assert code_of(read_plain_bytes, plain / "below", 5) is Code.INPUT_MISSING
    plain.write_bytes(b"\xff\xfe")
    assert code_of(read_plain_text, plain) is Code.CONFIG_UNREADABLE


def test_a_file_whose_size_is_told_wrong_is_read_to_its_end() -> None:
    assert read_plain_bytes(Path("/proc/self/status"), 1_000_000).startswith(b"Name:")  # its size is told as 0


HOSTILE_YAML = {
    "aliases": "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n"
    + "\n".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)),
    "merges": "b0: &b0 {x: 1}\n" + "\n".join(f"b{i}: &b{i} {{<<: [*b{i - 1}, *b{i - 1}]}}" for i in range(1, 40)),
    "holds itself": "a: &a [*a]",
    "unknown alias": "a: *b",
    "flow nesting": "[" * 100_000,
    "block nesting": "\n".join(" " * i + "a:" for i in range(200)),
    "list nesting": "- " * 2000,
    "values": "[" + "1," * 60_000 + "]",
    "long integer": "a: " + "1" * 5000,
    "long hexadecimal": "a: 0x" + "f" * 5000,
    "base sixty": "a: " + ":".join(["1"] * 3000),
    "long float": "a: 1." + "0" * 5000,
    "no such date": "a: 2020-13-45",
    "no such time": "a: 2020-01-01 99:99:99",
    "keys that meet in one place of the hash table": "\n".join(f"{(2**61 - 1) * i}: 1" for i in range(20_000)),
    "such members of a set": "a: !!set {" + ",".join(f"{(2**61 - 1) * i}" for i in range(20_000)) + "}",
    "long text": "a: " + "x" * 20_000,
    "object": "a: !!python/object/apply:os.system ['true']",
    "two documents": "a: 1\n---\nb: 1",
    "list as a key": "? [a]\n: 1",
    "control character": "a: \x01",
    "lone surrogate": 'a: "\\ud800"',
    "cut short": "a: [1, 2",
}


@pytest.mark.parametrize("name", HOSTILE_YAML)
def test_hostile_yaml_is_refused(name: str) -> None:
    assert code_of(parse_yaml, HOSTILE_YAML[name], "file") is Code.CONFIG_UNREADABLE


def test_plain_yaml_is_read_with_its_aliases() -> None:
    text = "a: &a {x: 1, y: .5, z: 2020-01-02}\nb: {<<: *a, x: 2}\nc: [*a, *a]\nd: 1e3\ne: -0x10\nf: yes\ng:\n"
    found = parse_yaml(text, "file")
    assert found["b"]["x"] == 2 and found["b"]["y"] == 0.5 and found["c"][0] == found["a"]
    assert (found["e"], found["f"], found["g"]) == (-16, True, None)


@pytest.mark.parametrize("text", ["[" * 1000, '{"a":' * 1000, '"\\ud800"', "1" * 5000, "{", "", "nul", '{"a": 1} x'])
def test_hostile_json_is_refused(text: str) -> None:
    assert code_of(parse_json, text, "file") is Code.CONFIG_UNREADABLE


class Setting(StrictConfig):
    name: str = ""
    count: int = 0


@pytest.mark.parametrize("text", [*HOSTILE_YAML.values(), "count: {a: 1}", "name: [1]", "- 1"])
def test_a_configuration_file_ends_in_one_short_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "setting.yaml"
    path.write_text(text)
    with pytest.raises(RobinError) as refused:
        load_config(Setting, path)
    assert str(path) in str(refused.value) and len(str(refused.value)) < 1000


def test_values_are_shown_short() -> None:
    assert shown("a\nb") == "'a\\nb'" and len(shown("x" * 1000)) < 100
    assert shown([1] * 1000) == "list of 1000" and shown(1 << 100_000) == "int"


def png(width: int, height: int, body: bytes = b"") -> bytes:
    """A PNG that claims that size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


def test_sizes_of_images_are_read_without_decoding() -> None:
    for kind in (".png", ".jpg"):
        data = cv2.imencode(kind, PIXELS)[1].tobytes()
        assert image_size(data, "x") == (8, 6)
        assert decode_image(data, "x").shape == (6, 8, 3)
    assert image_size(png(60_000, 70_000), "x") == (60_000, 70_000)


@pytest.mark.parametrize("size", [(60_000, 60_000), (2**31 - 1, 1), (MOST_PIXELS + 1, 1)])
def test_an_image_that_claims_too_many_pixels_is_refused_before_decoding(size: tuple[int, int]) -> None:
    assert code_of(decode_image, png(*size), "x") is Code.INPUT_TOO_LARGE


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        png(8, 6)[:-12],
        cv2.imencode(".jpg", PIXELS)[1].tobytes() + b"\xff\xda" * 200,
        cv2.imencode(".bmp", PIXELS)[1].tobytes(),
        cv2.imencode(".tiff", PIXELS)[1].tobytes(),
    ],
)
def test_what_is_no_whole_image_is_refused(data: bytes) -> None:
    assert code_of(decode_image, data, "x") is Code.INPUT_UNREADABLE


def damaged(kind: str) -> bytes:
    """A whole image of noise with one byte changed in its middle."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    data = bytearray(cv2.imencode(kind, noise)[1].tobytes())
    data[len(data) // 2] ^= 0xFF
    return bytes(data)


def test_a_damaged_picture_is_refused_and_its_library_keeps_silent(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RobinError) as refused:
        decode_image(damaged(".png"), "x")
    assert "libpng error" in str(refused.value) and capfd.readouterr().err == ""
    cut = cv2.imencode(".jpg", PIXELS)[1].tobytes()
    with pytest.raises(RobinError) as refused:
        decode_image(cut[: len(cut) // 2 + 150], "x")
    assert refused.value.code is Code.INPUT_UNREADABLE and capfd.readouterr().err == ""
    assert decode_image(cut, "x").shape == (6, 8, 3)


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def claiming(shape: str) -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(16)


def test_arrays_come_back() -> None:
    array = np.arange(12.0, dtype=np.float32).reshape(3, 4)
    for kept in (array, array.T, array.astype(">f8"), np.zeros((0, 3))):
        np.testing.assert_array_equal(parse_npy(npy(kept), "x"), kept)
    packed = io.BytesIO()
    np.savez_compressed(packed, a=array, text=np.array("ä"))
    found = parse_npz(packed.getvalue(), "x", 10_000)
    np.testing.assert_array_equal(found["a"], array)
    assert str(found["text"]) == "ä"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        claiming("(1000000, 1000000)"),
        claiming("(-1, -4)"),
        claiming("(True, 4)"),
        claiming("(" * 400),
        claiming("4"),
        claiming("()"),
        npy(np.array([{}], dtype=object)),
    ],
)
def test_arrays_that_claim_another_size_or_hold_objects_are_refused(data: bytes) -> None:
    assert code_of(parse_npy, data, "x") is Code.INPUT_UNREADABLE


def packed(method: int, size: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr("a.npy", bytes(size))
    return stream.getvalue()


def test_archives_that_unpack_to_too_much_are_refused() -> None:
    assert code_of(parse_npz, packed(zipfile.ZIP_DEFLATED, 1_000_000), "x", 999_999) is Code.INPUT_TOO_LARGE
    assert code_of(parse_npz, packed(zipfile.ZIP_LZMA, 10), "x", 999_999) is Code.INPUT_UNREADABLE
    assert code_of(parse_npz, packed(zipfile.ZIP_DEFLATED, 1000)[:-30], "x", 999_999) is Code.INPUT_UNREADABLE
    assert code_of(parse_npz, packed(zipfile.ZIP_DEFLATED, 1000), "x", 999_999) is Code.INPUT_UNREADABLE  # no array


def test_an_image_folder_of_pipes_and_bombs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "camera.json").write_text("[" * 1000)
    assert code_of(load_camera, tmp_path / "camera.json") is Code.CONFIG_UNREADABLE
    camera = tmp_path / "good.json"
    camera.write_text('{"fx": 9, "fy": 9, "cx": 3.5, "cy": 2.5, "width": 8, "height": 6}')
    good = tmp_path / "color.png"
    good.write_bytes(cv2.imencode(".png", PIXELS)[1].tobytes())
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe.npy")
    (tmp_path / "claims.npy").write_bytes(claiming("(1000000, 1000000)"))
    for color, depth in (("pipe.png", "d.png"), ("color.png", "pipe.npy"), ("color.png", "claims.npy")):
        found = code_of(load_frame_files, tmp_path / color, tmp_path / depth, camera)
        assert found is Code.INPUT_UNREADABLE

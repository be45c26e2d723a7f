"""What is written is whole, follows links, and never takes the place of what is no plain file."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from robin_perception.core.disk import sync_folder, sync_tree, write_atomic
from robin_perception.core.errors import Code, RobinError


def fsync_that_fails(monkeypatch: pytest.MonkeyPatch, number: int, of_folders: bool) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) == of_folders:
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


def test_a_link_is_followed_and_stays_one(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to("far/result.json")
    for data in (b"first", b"second"):
        write_atomic(tmp_path / "link", data)
        assert (tmp_path / "link").is_symlink() and (tmp_path / "far/result.json").read_bytes() == data
    assert [entry.name for entry in (tmp_path / "far").iterdir()] == ["result.json"]


def test_a_file_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "private").touch(mode=0o600)
    write_atomic(tmp_path / "private", b"new")
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600


def test_a_name_of_the_longest_kind_can_be_written(tmp_path: Path) -> None:
    write_atomic(tmp_path / ("a" * 255), b"whole")
    assert (tmp_path / ("a" * 255)).read_bytes() == b"whole"
    with pytest.raises(RobinError, match="cannot write") as caught:
        write_atomic(tmp_path / ("a" * 256), b"whole")
    assert caught.value.code is Code.OPTION_INVALID


def test_a_pipe_is_written_into_and_one_without_a_reader_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(RobinError) as caught:
        write_atomic(pipe, b"nobody reads")
    assert caught.value.code is Code.OPTION_INVALID and pipe.is_fifo()
    got = bytearray()
    descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)

    def read() -> None:
        while len(got) < 300_000:
            got.extend(os.read(descriptor, 65_536))  # nothing, as long as nobody has opened it for writing

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    write_atomic(pipe, b"x" * 300_000)
    reader.join(60)
    os.close(descriptor)
    assert got == b"x" * 300_000 and pipe.is_fifo()


@pytest.mark.parametrize(("device", "code"), [("null", None), ("full", Code.DISK_FULL)])
def test_a_device_stays_one(tmp_path: Path, device: str, code: Code | None) -> None:
    """By way of a link, so that a failure of this test cannot harm the machine's own /dev: a rename hits the link."""
    link = tmp_path / device
    link.symlink_to(f"/dev/{device}")
    if code is None:
        write_atomic(link, b"gone")
    else:
        with pytest.raises(RobinError) as caught:
            write_atomic(link, b"gone")
        assert caught.value.code is code
    assert link.is_symlink() and link.is_char_device()


def test_standard_output_is_written_through_it_whatever_it_is(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from robin_perception.core.disk import write_atomic\n"
        "print('before'); write_atomic(Path('/dev/stdout'), b'data\\n'); print('after')"
    )
    with (tmp_path / "file").open("wb") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True, timeout=60)
    assert (tmp_path / "file").read_text() == "before\ndata\nafter\n"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, timeout=60)
    assert done.stdout == b"before\ndata\nafter\n"


def test_a_file_system_without_fsync_of_folders_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync_that_fails(monkeypatch, errno.EINVAL, of_folders=True)
    write_atomic(tmp_path / "file", b"whole")
    sync_tree(tmp_path)
    assert (tmp_path / "file").read_bytes() == b"whole"


@pytest.mark.parametrize("of_folders", [False, True])
def test_a_disk_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_folders: bool) -> None:
    fsync_that_fails(monkeypatch, errno.EIO, of_folders)
    with pytest.raises(RobinError, match="cannot write"):
        write_atomic(tmp_path / "file", b"lost?")
    assert not list(tmp_path.glob(".*"))
    if of_folders:
        with pytest.raises(OSError, match="Input/output"):
            sync_folder(tmp_path)


def test_what_cannot_be_replaced_is_left_with_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "round").symlink_to("round")
    for name in ("folder", "round", "missing/file"):
        with pytest.raises(RobinError) as caught:
            write_atomic(tmp_path / name, b"data")
        assert caught.value.code is Code.OPTION_INVALID and str(tmp_path / name) in caught.value.text
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder", "round"]

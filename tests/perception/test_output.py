"""A folder that is written belongs to one process; what dead ones left is removed; other people's files are not."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from robin_perception.core.errors import Code, RobinError
from robin_perception.core.output import locked, output_folder, require_own, require_room, scratch_folder

PATIENCE_S = 60


def _own(folder: Path, answer: Connection) -> None:
    with output_folder(folder):
        (folder / "part").write_text("mine")
        answer.send("owned")
        signal.pause()


def _scratch(answer: Connection) -> None:
    with scratch_folder("robin-test-") as folder:
        (folder / "part").write_text("mine")
        answer.send(str(folder))
        signal.pause()


@contextmanager
def another(target: object, *arguments: object) -> Iterator[tuple[multiprocessing.Process, str]]:
    """A process that holds something until it is killed, and what it said."""
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(*arguments, sending))  # type: ignore[arg-type]
    process.start()
    try:
        assert receiving.poll(PATIENCE_S)
        yield process, receiving.recv()  # type: ignore[misc]
    finally:
        process.kill()
        process.join()


def refused(code: Code, call: object, *arguments: object) -> str:
    with pytest.raises(RobinError) as caught:
        call(*arguments)  # type: ignore[operator]
    assert caught.value.code is code
    return caught.value.text


def enter(folder: Path) -> None:
    with output_folder(folder):
        raise AssertionError("entered")


def test_a_folder_that_another_process_writes_is_refused_until_that_one_ends(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with another(_own, folder) as (process, _):
        assert "another process" in refused(Code.OPTION_INVALID, enter, folder)
        assert (folder / "part").read_text() == "mine"
        process.kill()
        process.join()
        with output_folder(folder):
            assert (folder / "part").read_text() == "mine"


def test_a_lock_is_waited_for_as_long_as_asked(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(RobinError), locked(tmp_path, 0.3):
        raise AssertionError("entered")
    with locked(tmp_path, 0.3):
        pass


def test_a_file_system_without_locks_is_used_without_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", flock)
    with output_folder(tmp_path / "out"):
        (tmp_path / "out/result").touch()
    assert (tmp_path / "out/result").exists()


@pytest.mark.parametrize("filled", [False, True])
def test_a_folder_that_stays_empty_goes_again(tmp_path: Path, filled: bool) -> None:
    with pytest.raises(KeyError), output_folder(tmp_path / "deep/out"):
        if filled:
            (tmp_path / "deep/out/result").touch()
        raise KeyError("the work failed")
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == (
        ["deep", "deep/out", "deep/out/result"] if filled else []
    )


def test_a_folder_that_was_there_stays(tmp_path: Path) -> None:
    with output_folder(tmp_path):
        pass
    assert tmp_path.is_dir()


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file/deeper", Path("/proc/none"), Path("/proc/self/fd")):
        assert str(place) in refused(Code.OPTION_INVALID, enter, place) or place.name == "deeper"
    refused(Code.OPTION_INVALID, require_room, tmp_path / "none")


def test_what_a_killed_process_left_is_removed_and_a_living_ones_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "robin-test-of-another-kind-of-file").touch()
    (tmp_path / "robin-test-link").symlink_to(tmp_path)
    with another(_scratch) as (process, theirs):
        with scratch_folder("robin-test-") as mine:
            assert mine.is_dir() and Path(theirs, "part").exists() and mine != Path(theirs)
        assert not mine.exists() and Path(theirs, "part").exists()
        process.kill()
        process.join()
    assert Path(theirs, "part").exists()
    with scratch_folder("robin-test-"):
        assert not Path(theirs).exists()
    assert len(list(tmp_path.iterdir())) == 2


JSON = (b"{", b"[")


def test_only_results_of_the_same_kind_are_replaced(tmp_path: Path) -> None:
    for name, data in {"new.json": None, "empty.json": b"", "old.json": b'{"a": 1}'}.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
        require_own(tmp_path / name, JSON)
    (tmp_path / "camera.json").write_text("{}")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "result.json").symlink_to("camera.json")
    for name in ("camera.json", "picture.png", "result.json"):
        assert name in refused(Code.OPTION_INVALID, require_own, tmp_path / name, JSON)
    assert "folder" in refused(Code.OPTION_INVALID, require_own, tmp_path, JSON)


def test_an_input_is_never_a_result(tmp_path: Path) -> None:
    (tmp_path / "cell.yaml").write_text("{}")
    os.link(tmp_path / "cell.yaml", tmp_path / "same.json")
    inputs = (None, tmp_path / "none", tmp_path / "cell.yaml")
    assert "is an input" in refused(Code.OPTION_INVALID, require_own, tmp_path / "same.json", JSON, inputs)


def test_a_device_is_written_into_and_so_never_refused() -> None:
    require_own(Path("/dev/null"), JSON)

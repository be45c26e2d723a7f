"""The cache of built engines: what fits is found, what does not is built anew with a reason, half-made never taken."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from robin_perception.core.errors import Code, RobinError
from robin_perception.engines.cache import ENTRY_FILE, EngineCache, cache_root, key_digest

KEY = {
    "kind": "tensorrt",
    "bundle": "base",
    "network": "ab" * 32,
    "gpu": "NVIDIA Orin",
    "compute": "8.7",
    "tensorrt": "10.3.0",
    "precision": "float16",
    "input": "512x384",
}
FILES = {"engine.plan": b"plan" * 100, "build.log": b"built\n"}
PATIENCE_S = 60.0


@pytest.fixture()
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


def must_not_build() -> dict[str, bytes]:
    raise AssertionError("built although an engine was there")


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_what_was_stored_is_found_and_not_built_again(cache: EngineCache) -> None:
    assert cache.entry(KEY) is None and cache.entries() == []
    path = cache.built(KEY, lambda: FILES)
    assert {name: (path / name).read_bytes() for name in FILES} == FILES
    assert cache.built(KEY, must_not_build) == path == cache.entry(KEY)
    (entry,) = cache.entries()
    assert entry.key == KEY and entry.problem is None and entry.verification is None
    assert entry.size_bytes > sum(map(len, FILES.values()))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("network", "cd" * 32, "network was abababababab…, is cdcdcdcdcdcd…"),
        ("gpu", "NVIDIA L4", "gpu was NVIDIA Orin, is NVIDIA L4"),
        ("compute", "8.9", "compute was 8.7, is 8.9"),
        ("tensorrt", "10.7.0", "tensorrt was 10.3.0, is 10.7.0"),
        ("precision", "float32", "precision was float16, is float32"),
        ("input", "640x480", "input was 512x384, is 640x480"),
    ],
)
def test_a_key_that_does_not_fit_is_a_new_build_that_says_what_changed(
    cache: EngineCache, field: str, value: str, words: str
) -> None:
    old = cache.store(KEY, FILES)
    other = {**KEY, field: value}
    path, reason = cache.find(other)
    assert path is None and words in reason
    new = cache.built(other, lambda: {"engine.plan": b"other"})
    assert new != old and cache.entry(KEY) == old


def test_a_damaged_file_is_noticed_and_built_anew(cache: EngineCache) -> None:
    path = cache.store(KEY, FILES)
    plan = bytearray((path / "engine.plan").read_bytes())
    plan[7] ^= 1
    (path / "engine.plan").write_bytes(plan)
    found, reason = cache.find(KEY)
    assert found is None and "engine.plan is damaged" in reason
    assert cache.built(KEY, lambda: FILES) == path and cache.entry(KEY) == path


@pytest.mark.parametrize("spoil", ["cut", "gone", "not json"])
def test_a_damaged_description_is_noticed(cache: EngineCache, spoil: str) -> None:
    path = cache.store(KEY, FILES)
    entry = path / ENTRY_FILE
    text = entry.read_text()
    entry.unlink() if spoil == "gone" else entry.write_text(text[: len(text) // 2] if spoil == "cut" else "[]")
    found, reason = cache.find(KEY)
    assert found is None and ENTRY_FILE in reason


def test_an_engine_from_another_machine_is_foreign_however_well_its_key_fits(
    cache: EngineCache, tmp_path: Path
) -> None:
    theirs = EngineCache(tmp_path / "elsewhere")
    brought = theirs.store(KEY, FILES)
    cache.root.mkdir()
    shutil.copytree(brought, cache.root / brought.name)
    found, reason = cache.find(KEY)
    assert found is None and "foreign" in reason
    assert [entry.problem is None for entry in cache.entries()] == [False]


def test_an_engine_exchanged_together_with_its_hash_is_foreign(cache: EngineCache) -> None:
    path = cache.store(KEY, FILES)
    other = EngineCache(cache.root).store({**KEY, "gpu": "other"}, {**FILES, "engine.plan": b"evil"})
    entry = json.loads((path / ENTRY_FILE).read_text())
    entry["files"] = json.loads((other / ENTRY_FILE).read_text())["files"]
    (path / ENTRY_FILE).write_text(json.dumps(entry))
    (path / "engine.plan").write_bytes(b"evil")
    found, reason = cache.find(KEY)
    assert found is None and "foreign" in reason


def test_a_fitting_name_with_another_key_inside_is_not_taken(cache: EngineCache) -> None:
    path = cache.store({**KEY, "gpu": "other"}, FILES)
    path.rename(cache.root / f"tensorrt-{key_digest(KEY)}")
    found, reason = cache.find(KEY)
    assert found is None and "key" in reason


def test_a_name_that_leaves_the_folder_is_not_followed(cache: EngineCache, tmp_path: Path) -> None:
    path = cache.store(KEY, FILES)
    (tmp_path / "engines" / "outside").write_bytes(b"x")
    entry = json.loads((path / ENTRY_FILE).read_text())
    entry["files"]["../outside"] = "00"
    entry["seal"] = cache._seal(entry)
    (path / ENTRY_FILE).write_text(json.dumps(entry))
    assert "no name of a file" in cache.find(KEY)[1]


def test_a_verification_counts_for_the_files_it_was_made_with_only(cache: EngineCache) -> None:
    path = cache.store(KEY, FILES)
    cache.note_verification(path, {"passed": True, "mask_iou": 0.99})
    assert cache.entries()[0].verification == {"passed": True, "mask_iou": 0.99}
    kept = (path / "verification.json").read_bytes()
    path = cache.store(KEY, {**FILES, "engine.plan": b"built anew"})
    assert cache.entries()[0].verification is None
    (path / "verification.json").write_bytes(kept)
    assert cache.entries()[0].verification is None


def _build_slowly(root: Path, made: Path) -> None:
    def build() -> dict[str, bytes]:
        with made.open("a") as log:
            log.write(f"{os.getpid()}\n")
        time.sleep(0.3)
        return FILES

    EngineCache(root).built(KEY, build)


def test_two_processes_that_need_the_same_engine_make_one(cache: EngineCache, tmp_path: Path) -> None:
    made = tmp_path / "made"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_build_slowly, args=(cache.root, made)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(PATIENCE_S)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert len(made.read_text().splitlines()) == 1 and cache.entry(KEY) is not None


STUCK = """
import sys, time
from pathlib import Path
from robin_perception.engines import cache as module
real = module.write_synced
def slow(path, data):
    real(path, data)
    if path.name == "engine.plan":  # one file is whole, the description is not yet there
        print("half", flush=True)
        time.sleep(600)
module.write_synced = slow
key = {key!r}
module.EngineCache(Path({root!r})).built(key, lambda: {files!r})
"""


def test_a_build_that_was_killed_leaves_nothing_that_is_taken_and_no_lock(cache: EngineCache) -> None:
    script = STUCK.format(key=KEY, root=str(cache.root), files=FILES)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "half\n"
        assert list(cache.root.glob(".*.tmp"))
        process.send_signal(signal.SIGKILL)
    assert cache.entry(KEY) is None and cache.entries() == []
    path = cache.built(KEY, lambda: FILES)
    assert cache.entry(KEY) == path and not list(cache.root.glob(".*.tmp"))


def test_a_waiting_process_goes_on_when_the_builder_is_killed(cache: EngineCache, tmp_path: Path) -> None:
    script = STUCK.format(key=KEY, root=str(cache.root), files=FILES)
    made = tmp_path / "made"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "half\n"
        waiting = multiprocessing.get_context("fork").Process(target=_build_slowly, args=(cache.root, made))
        waiting.start()
        time.sleep(0.3)
        assert waiting.is_alive() and not made.exists()
        process.send_signal(signal.SIGKILL)
        waiting.join(PATIENCE_S)
    assert waiting.exitcode == 0 and cache.entry(KEY) is not None


def _store_with_little_space(root: Path, answer: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # the system's own refusal, as of a full disk
    try:
        EngineCache(root).store(KEY, {"engine.plan": bytes(100_000)})
    except RobinError as exc:
        answer.write_text(f"{exc.code.name} {exc.text}")


def test_a_full_disk_is_one_line_and_the_cache_stays_as_it_was(cache: EngineCache, tmp_path: Path) -> None:
    kept = cache.store(KEY, FILES)
    answer = tmp_path / "answer"
    worker = multiprocessing.get_context("fork").Process(target=_store_with_little_space, args=(cache.root, answer))
    worker.start()
    worker.join(PATIENCE_S)
    text = answer.read_text()
    assert text.startswith("DISK_FULL") and "cannot write" in text and "\n" not in text
    assert cache.entry(KEY) == kept and not list(cache.root.glob(".*.tmp"))


def test_a_failed_build_leaves_the_lock_free_and_no_entry(cache: EngineCache) -> None:
    def fail() -> dict[str, bytes]:
        raise RobinError(Code.ENGINE_FAILED, "no memory")

    with pytest.raises(RobinError, match="no memory"):
        cache.built(KEY, fail)
    assert cache.built(KEY, lambda: FILES) == cache.entry(KEY)


def test_the_place_of_the_cache_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROBIN_ENGINE_CACHE", str(tmp_path / "here"))
    assert cache_root() == tmp_path / "here"
    monkeypatch.delenv("ROBIN_ENGINE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "robin_edge" / "engines"


def test_the_engine_of_another_camera_is_no_misfit(cache: EngineCache) -> None:
    key = {"kind": "tensorrt-prelude", "camera": "1280x720", "tensorrt": "10.3.0"}
    cache.store(key, FILES)
    path, reason = cache.find({**key, "camera": "640x480"})
    assert path is None and reason.endswith("no tensorrt-prelude engine for 640x480 has been built yet")
    path, reason = cache.find({**key, "tensorrt": "10.7.0"})
    assert path is None and "for 1280x720 fits: tensorrt was 10.3.0, is 10.7.0" in reason


def test_without_a_home_there_is_no_cache_and_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("ROBIN_ENGINE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    cache = EngineCache()
    assert cache.entry(KEY) is None and cache.entries() == []
    for call in (cache.require_writable, lambda: cache.store(KEY, FILES)):
        with pytest.raises(RobinError, match="ROBIN_ENGINE_CACHE") as caught:
            call()
        assert caught.value.code is Code.OPTION_INVALID


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_cache_that_may_not_be_read_is_none(cache: EngineCache, tmp_path: Path) -> None:
    cache.store(KEY, FILES)
    code = (
        "import os, sys; from pathlib import Path; from robin_perception.engines.cache import EngineCache\n"
        "os.setegid(54321); os.seteuid(54321)\n"
        "cache = EngineCache(Path(sys.argv[1])); print(cache.find({'kind': 'tensorrt'})[0], cache.entries())"
    )
    for folder in (tmp_path, cache.root):
        folder.chmod(0o700)
        done = subprocess.run([sys.executable, "-c", code, cache.root], capture_output=True, text=True, check=False)
        assert done.stdout.strip() == "None []", done.stderr


def test_a_build_that_never_ends_is_not_waited_for_for_ever(
    cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robin_perception.engines.cache._MOST_WAIT_S", 0.2)
    with cache.building(KEY), pytest.raises(RobinError) as caught, cache.building(KEY):
        raise AssertionError("entered")
    assert caught.value.code is Code.ENGINE_BUILD_FAILED

"""The engine's process as the system sees it: it ends with its parent, inherits nothing, leaks nothing."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from helpers.misbehaving_engine import set_mood
from helpers.supervised_engines import (
    NAME,
    ONE_THREAD,
    PATIENCE_S,
    answer_of_child,
    inputs_of,
    moody_bundle,
    pile_frame,
    supervised,
    wait_until,
)

from robin_perception.core.errors import Code
from robin_perception.engines.testing.tiny_bundle import tiny_bundle
from robin_perception.model.bundle import Bundle, TensorSpec
from robin_perception.supervision import SupervisedEngine, SupervisionConfig, start_engine
from robin_perception.supervision.channel import Channel, ChannelClosed, ChannelGarbage, ChannelLate, TensorBlock
from robin_perception.supervision.process import Child
from robin_perception.supervision.warm_up import bare_belt

pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"), pytest.mark.slow]
TESTS = Path(__file__).parents[1]
SHARED = Path("/dev/shm")
# A parent that prints its child's number and then lets it work, or hang, until it is killed itself.
PARENT = """
import sys, threading
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from helpers.misbehaving_engine import set_mood
from robin_perception.model.bundle import load_bundle
from helpers.supervised_engines import *
bundle = load_bundle(Path(sys.argv[2]))
with supervised(bundle, deadline_ms=60_000) as engine:
    inputs = inputs_of(engine, pile_frame())
    answer_of_child(engine, inputs)
    set_mood(bundle.directory, sys.argv[3])
    print(engine.child_pid, flush=True)
    while True:
        engine.run(inputs)
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return moody_bundle(tmp_path_factory.mktemp("model") / "colours")


@pytest.fixture
def good(bundle: Bundle) -> Iterator[None]:
    yield
    set_mood(bundle.directory, "good")


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def descriptors() -> Counter[str]:
    """What this process has open, by kind or file."""
    found: Counter[str] = Counter()
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the listing itself
            found[os.readlink(path).split(":[")[0]] += 1
    return found


def blocks() -> int:
    """How many blocks of shared memory this process has mapped."""
    return Path("/proc/self/maps").read_text().count("memfd:robin_engine")


@pytest.mark.parametrize("mood", ["good", "hang_in_driver"])
def test_the_child_ends_with_a_parent_that_is_killed_and_leaves_nothing(bundle: Bundle, good: None, mood: str) -> None:
    """Also inside a call that never lets go of the interpreter, where no thread of the child could notice."""
    before = set(os.listdir(SHARED))
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(TESTS), str(bundle.directory), mood], stdout=subprocess.PIPE, text=True
    )
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child)
        mapped = Path(f"/proc/{child}/maps").read_text()
        assert "memfd:robin_engine" in mapped and "/dev/shm/" not in mapped
    finally:
        parent.kill()
        parent.communicate()
    wait_until(lambda: not alive(child))
    assert not [name for name in set(os.listdir(SHARED)) - before if "robin" in name or name.startswith("psm_")]


def test_the_child_inherits_nothing_but_its_two_ends(bundle: Bundle) -> None:
    """No descriptor, no library, no group of signals of this process."""
    with supervised(bundle) as engine, socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        child = engine.child_pid
        links = [os.readlink(path) for path in Path(f"/proc/{child}/fd").iterdir() if path.name not in "012"]
        handed_over = [link for link in links if link.startswith(("socket:", "pipe:", "/memfd:robin_engine"))]
        assert sorted(link.split(":")[0] for link in handed_over) == ["/memfd", "socket"], links
        assert os.getsid(child) == os.getpgid(child) == child
        assert "pytest" not in Path(f"/proc/{child}/maps").read_text()
        assert "librcl" not in Path(f"/proc/{child}/maps").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_that_are_meant_for_the_parent_do_not_end_the_child(bundle: Bundle, number: signal.Signals) -> None:
    with supervised(bundle) as engine:
        child = engine.child_pid
        os.kill(child, number)
        inputs = inputs_of(engine, pile_frame())
        for _ in range(3):
            answer_of_child(engine, inputs)
        assert engine.child_pid == child and engine.status().child.crashes == 0


def test_a_closed_engine_leaves_no_process_thread_or_descriptor(bundle: Bundle, good: None) -> None:
    me = psutil.Process()
    with supervised(bundle) as engine:  # what is loaded once is loaded now
        answer_of_child(engine, inputs_of(engine, pile_frame()))
    del engine
    gc.collect()
    before, threads, mapped = descriptors(), me.num_threads(), blocks()
    pids = []
    with supervised(bundle) as engine:
        inputs = inputs_of(engine, pile_frame())
        for mood in ("good", "kill", "nan"):
            set_mood(bundle.directory, mood)
            engine.run(inputs)
            set_mood(bundle.directory, "good")
            answer_of_child(engine, inputs)
            pids.append(engine.child_pid)
    del engine
    gc.collect()
    assert len(set(pids)) == 3 and not any(alive(pid) for pid in pids)
    assert descriptors() - before == Counter()
    assert me.num_threads() <= threads
    assert blocks() == mapped


def test_an_engine_that_is_dropped_without_being_closed_ends_its_child(bundle: Bundle) -> None:
    settings = SupervisionConfig(mode="always", deadline_ms=60_000)
    engine = start_engine("onnxruntime", bundle, ONE_THREAD, settings)
    assert isinstance(engine, SupervisedEngine) and engine.wait_ready(PATIENCE_S)
    child = engine.child_pid
    assert alive(child)
    del engine
    gc.collect()
    wait_until(lambda: not alive(child))


@pytest.mark.slow
def test_memory_does_not_grow_over_many_calls(tmp_path: Path) -> None:
    """100,000 are measured by `robin bench supervision`; a leak of one answer per call would be 50 MB here."""
    settings = SupervisionConfig(mode="always", deadline_ms=60_000)
    engine = start_engine("onnxruntime", tiny_bundle(tmp_path / "tiny"), ONE_THREAD, settings)
    assert isinstance(engine, SupervisedEngine) and engine.wait_ready(PATIENCE_S)
    inputs = bare_belt({name: np.zeros(spec.shape, spec.dtype) for name, spec in engine.inputs.items()})
    for _ in range(300):
        engine.run(inputs)
    processes = (psutil.Process(), psutil.Process(engine.child_pid))
    before = [process.memory_info().rss for process in processes]
    for _ in range(5000):
        engine.run(inputs)
    grown = [process.memory_info().rss - rss for process, rss in zip(processes, before, strict=True)]
    status = engine.status()
    engine.close()
    assert status.answers == {"onnxruntime": 5300} and status.fallback_answers == 0 and status.child.restarts == 0
    assert max(grown) < 15e6, grown


def test_a_child_that_babbles_is_told_from_one_that_answers() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    theirs.sendall(b'{"a": 1}\n{"b"')
    assert channel.receive(PATIENCE_S) == {"a": 1}
    with pytest.raises(ChannelLate):
        channel.receive(0.01)
    theirs.sendall(b": 2}\n\xff\xfe\n[1]\n")
    assert channel.receive(PATIENCE_S) == {"b": 2}
    for _ in range(2):
        with pytest.raises(ChannelGarbage):
            channel.receive(PATIENCE_S)
    theirs.close()
    for ask in (lambda: channel.receive(PATIENCE_S), lambda: channel.send({"a": 1})):
        with pytest.raises(ChannelClosed):
            ask()
    channel.close()


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    ours, theirs = socket.socketpair()
    babbling = threading.Thread(target=lambda: (theirs.sendall(b"x" * (1 << 21)), theirs.close()))
    babbling.start()
    with pytest.raises(ChannelGarbage, match="without end"):
        Channel(ours).receive(PATIENCE_S)
    while ours.recv(1 << 16):
        pass
    babbling.join(PATIENCE_S)
    ours.close()


def test_both_sides_of_a_block_see_the_same_tensors() -> None:
    specs = [
        TensorSpec(name="a", shape=(3, 5), dtype="uint8"),
        TensorSpec(name="nothing", shape=(0, 4)),
        TensorSpec(name="b", shape=(2, 2)),
    ]
    mine = TensorBlock(specs)
    yours = TensorBlock(specs, os.dup(mine.descriptor))
    mine.views["a"][:] = 7
    yours.views["b"][:] = np.pi
    assert (yours.views["a"] == 7).all() and np.allclose(mine.views["b"], np.pi)
    assert yours.views["nothing"].shape == (0, 4)
    mine.close_descriptor()
    yours.close_descriptor()
    assert (yours.views["a"] == 7).all()


def test_no_process_to_be_had_is_a_crash_like_any_other(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(Child, "__init__", refuse)
    with supervised(bundle, wait=False, max_restarts=1) as engine:
        assert not engine.wait_ready(PATIENCE_S)
        standing = engine.standing_fault()
        assert standing is not None and "no process could be started" in standing.text
        assert engine.run(inputs_of(engine, pile_frame())) and engine.status().answered_by != NAME


def test_a_bug_in_the_watchdog_does_not_look_like_a_long_start(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(child: Child, timeout_s: float) -> float:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Child, "wait_ready", fail)
    with supervised(bundle, wait=False) as engine:
        assert not engine.wait_ready(PATIENCE_S)
        standing = engine.standing_fault()
        assert standing is not None and standing.code == Code.ENGINE_GIVEN_UP and "a bug" in standing.text
        assert engine.run(inputs_of(engine, pile_frame())) and engine.status().answered_by != NAME

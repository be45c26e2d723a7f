"""One contract for all that does heavy work."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import fleet_parts as parts

from robin_fleet.compute import open_compute
from robin_fleet.compute.interface import Compute
from robin_perception.core.errors import Code, RobinError

RAY_HERE = "ROBIN_TEST_RAY"
"""Set where Ray may be started: in a network of its own."""
URLS = ("processes://2", pytest.param("dask://local", marks=pytest.mark.slow), "ray://local")


@pytest.fixture(scope="module", params=URLS)
def compute(request: pytest.FixtureRequest) -> Iterator[Compute]:
    if request.param.startswith("ray") and RAY_HERE not in os.environ:
        pytest.skip("Ray listens on the machine's own address: see test_ray_in_a_network_of_its_own")
    pytest.importorskip(request.param.partition(":")[0] if "ray" in request.param else "distributed")
    with open_compute(request.param) as opened:
        yield opened


def refused(code: Code) -> pytest.RaisesExc[RobinError]:
    return pytest.RaisesExc(RobinError, check=lambda exc: exc.code is code)


def test_results_come_in_the_order_of_the_items(compute: Compute) -> None:
    assert list(compute.map(parts.double, range(100))) == [2 * n for n in range(100)]
    assert list(compute.map(parts.slow_first, range(8))) == list(range(8))
    assert list(compute.map(parts.double, [])) == []


def test_it_is_done_elsewhere(compute: Compute) -> None:
    assert os.getpid() not in set(compute.map(parts.own_pid, range(4)))


def test_items_are_taken_as_workers_become_free(compute: Compute) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    results = compute.map(parts.double, items())
    assert next(results) == 0
    assert len(taken) < 1000
    assert sum(1 for _ in results) == 999


def test_a_numbered_error_comes_back_as_itself(compute: Compute) -> None:
    results = compute.map(parts.refuse_seven, range(20))
    assert [next(results) for _ in range(7)] == list(range(7))
    with refused(Code.RECORD_INVALID) as told:
        next(results)
    assert told.value.text == "the seventh"
    assert list(compute.map(parts.double, [1])) == [2]  # it goes on


def test_any_other_error_has_a_number(compute: Compute) -> None:
    with refused(Code.COMPUTE_FAILED) as told:
        list(compute.map(parts.divide_by, [1, 0]))
    assert "divide_by: ZeroDivisionError" in told.value.text


def test_what_a_killed_worker_had_is_done_again(compute: Compute, tmp_path: Path) -> None:
    tasks = [(str(tmp_path), number) for number in range(12)]
    assert list(compute.map(parts.die_once, tasks)) == list(range(12))
    assert (tmp_path / "died").exists()


def test_what_kills_every_worker_is_given_up(compute: Compute) -> None:
    with refused(Code.COMPUTE_FAILED) as told:
        list(compute.map(parts.always_die, range(12)))
    assert "always_die: its worker was killed" in told.value.text
    assert list(compute.map(parts.double, [1])) == [2]


@pytest.mark.parametrize("url", ["", "processes://", "processes://two", "dask://", "slurm://x", "ray:"])
def test_others_are_refused(url: str) -> None:
    with refused(Code.OPTION_INVALID):
        open_compute(url)


@pytest.mark.slow
def test_a_dask_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("robin_fleet.compute.on_dask._WAIT_S", 1)
    with refused(Code.COMPUTE_UNREACHABLE):
        open_compute("dask://127.0.0.1:1")


@pytest.mark.slow
def test_a_dask_of_others() -> None:
    """A scheduler that is there already."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(2, host="127.0.0.1", threads_per_worker=1, dashboard_address=None) as cluster:
        with open_compute(cluster.scheduler_address.replace("tcp://", "dask://")) as compute:
            assert list(compute.map(parts.double, range(5))) == [0, 2, 4, 6, 8]
            with refused(Code.RECORD_INVALID):
                list(compute.map(parts.refuse_seven, [7]))
        with open_compute(cluster.scheduler_address.replace("tcp://", "dask://")) as again:  # it was left running
            assert list(again.map(parts.double, [3])) == [6]


@pytest.mark.slow
def test_ray_in_a_network_of_its_own(tmp_path: Path) -> None:
    """The contract once more, where only the loopback is, with a home folder of its own."""
    pytest.importorskip("ray", reason="ray is not installed")
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("a network namespace needs root, unshare and ip")
    report = tmp_path / "report.xml"
    test = f"{sys.executable} -m pytest -q -p no:cacheprovider {__file__} -k 'ray and local' -m 'not slow'"
    command = [
        "unshare",
        "-n",
        "-p",
        "-f",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-c",
        f"ip link set lo up && {test} --junitxml {report}",
    ]
    tests = str(Path(__file__).parents[1])  # its workers import what this file hands to them
    path = os.pathsep.join(filter(None, (tests, os.environ.get("PYTHONPATH"))))
    env = {**os.environ, RAY_HERE: "1", "HOME": str(tmp_path), "PYTHONPATH": path}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=280, check=False)
    if "COMPUTE_UNREACHABLE" in done.stdout:
        pytest.skip("Ray cannot start here")
    assert done.returncode == 0, done.stdout
    assert 'errors="0" failures="0" skipped="0" tests="7"' in report.read_text(), done.stdout

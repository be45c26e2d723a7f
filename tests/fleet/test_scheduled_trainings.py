"""Trainings that an aggregator begins by itself."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml
from helpers.cli_helpers import Robin

from robin_cli.fleet.scheduled import LOG_FILE, ScheduledTrainings, train_command
from robin_cli.fleet.up import settle
from robin_fleet.folder import CONFIG_FILE, FleetConfig, TrainingConfig, make_fleet
from robin_perception.core.config import load_config


def until(found: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not found():
        assert time.monotonic() < end
        time.sleep(0.05)


def said(folder: Path, program: str, look_every_s: float = 0.2, looks: int = 1) -> list[str]:
    """What is told until the log has more than so many looks; the last look may be cut off."""
    told: list[str] = []
    trainings = ScheduledTrainings(folder, [sys.executable, "-c", program], look_every_s, told.append)
    trainings.start()
    until(lambda: (folder / LOG_FILE).exists() and (folder / LOG_FILE).read_text().count("UTC") > looks)
    trainings.close()
    return [line for line in told if "stopped" not in line]


def test_what_it_says_is_told_once_and_kept_in_full(tmp_path: Path) -> None:
    assert said(tmp_path, "print('teaching'); print('not due')", looks=3) == ["training: not due"]
    lines = (tmp_path / LOG_FILE).read_text().splitlines()
    assert lines[1:3] == ["teaching", "not due"] and lines.count("not due") >= 3


@pytest.mark.parametrize(
    ("program", "line"),
    [
        ("import sys; print('error E843 DECK_UNKNOWN: goods', file=sys.stderr)", "training: error E843"),
        ("import sys; sys.exit(3)", "training: ended with 3"),
    ],
)
def test_a_failure_is_told_and_tried_again(tmp_path: Path, program: str, line: str) -> None:
    (told,) = said(tmp_path, program, looks=2)
    assert told.startswith(line)


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    trainings = ScheduledTrainings(tmp_path, [str(tmp_path / "none")], 0.05, told.append)
    trainings.start()
    until(lambda: told)
    trainings.close()
    assert told == ["training: No such file or directory"]


def test_a_training_that_runs_is_asked_to_end_when_the_aggregator_ends(tmp_path: Path) -> None:
    program = (
        "import signal, sys, time, os\n"
        "def end(*_):\n    print('saved', flush=True); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\nprint(os.getpid(), os.nice(0), flush=True)\ntime.sleep(600)"
    )
    told: list[str] = []
    trainings = ScheduledTrainings(tmp_path, [sys.executable, "-c", program], 3600, told.append)
    trainings.start()
    log = tmp_path / LOG_FILE
    until(lambda: log.exists() and len(log.read_text().splitlines()) > 1)
    pid, nice = (int(word) for word in log.read_text().splitlines()[1].split())
    assert nice >= 10
    trainings.close()
    assert told == ["training: stopped; it goes on when the aggregator is up again"]
    assert log.read_text().splitlines()[-1] == "saved" and not psutil.pid_exists(pid)


def test_the_command_is_one_that_robin_knows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_fleet(tmp_path)
    command = train_command(tmp_path, TrainingConfig(deck="goods", quick=True))
    assert command[:3] == [sys.executable, "-m", "robin_cli.main"]
    answer = Robin(capsys)(*command[3:])
    assert answer.status != 0 and "DECK_UNKNOWN" in answer.err


def test_up_keeps_the_deck_in_the_folder(tmp_path: Path) -> None:
    settle(tmp_path, {}, "goods")
    settle(tmp_path, {"endpoint": "tcp://127.0.0.1:7999"})
    config = load_config(FleetConfig, tmp_path / CONFIG_FILE)
    assert config.training == TrainingConfig(deck="goods") and config.endpoint.endswith("7999")
    assert yaml.safe_load((tmp_path / CONFIG_FILE).read_text())["training"] == {"deck": "goods"}

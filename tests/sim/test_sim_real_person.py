"""A person at the help desk on the disk answers a simulated cell first, where it waits."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from robin_grasp.recovery.config import HelpConfig
from robin_grasp.recovery.help_desk import HelpDesk
from robin_grasp.recovery.help_request import DONE, SKIP, HelpRequest, parcel_cause
from robin_perception.core.errors import Code, RobinError
from robin_sim.real_person import RealPerson, clear_desk
from robin_sim.recovered_pile import PersonConfig
from robin_sim.runs.request import RunRequest

CAUSE = parcel_cause("nothing holds it", HelpConfig())


def answered_meanwhile(folder: Path, answer: str) -> threading.Thread:
    def look() -> None:
        waited = threading.Event()
        while not (asked := HelpDesk(folder).requests()):
            waited.wait(0.02)
        HelpDesk(folder).answer(asked[0].help_id, answer, "Ada")

    thread = threading.Thread(target=look)
    thread.start()
    return thread


def test_a_person_answers_while_the_cell_waits(tmp_path: Path) -> None:
    thread = answered_meanwhile(tmp_path, SKIP)
    told = RealPerson(tmp_path, 60.0, 3).ask(CAUSE, b"\xff\xd8", DONE)
    thread.join()
    assert told is not None and (told.answer, told.answered_by) == (SKIP, "Ada")
    (kept,) = HelpDesk(tmp_path).requests(answered=True)
    assert kept.help_id == "p00003-000001" and kept.picture and kept.timeout_answer == DONE


@pytest.mark.parametrize("wait_s", [0.0, 0.3])
def test_nobody_answers_in_time(tmp_path: Path, wait_s: float) -> None:
    person = RealPerson(tmp_path, wait_s, 0)
    assert person.ask(CAUSE, b"", DONE) is None
    simulated = HelpRequest(**CAUSE.model_dump(), help_id="x", asked_s=0, answer=DONE, answered_by="simulated person")
    person.tell(simulated)
    (kept,) = HelpDesk(tmp_path).requests(answered=True)
    assert kept.answer == DONE and (kept.answered_by == "simulated person") == (wait_s == 0)


def test_what_an_earlier_run_asked_goes_and_nothing_else(tmp_path: Path) -> None:
    RealPerson(tmp_path, 0.0, 0).ask(CAUSE, b"\xff\xd8", DONE)
    HelpDesk(tmp_path).ask(CAUSE)
    (tmp_path / "notes.txt").write_text("mine")
    clear_desk(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["h000001.json", "notes.txt"]


def test_nobody_can_be_asked_without_a_folder() -> None:
    with pytest.raises(RobinError) as refused:
        RunRequest("mixed", 1, 1, person=PersonConfig(real_wait_s=5)).checked()
    assert refused.value.code is Code.OPTION_INVALID and "--out" in refused.value.text

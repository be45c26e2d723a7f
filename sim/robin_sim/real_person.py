"""A real person, whom a simulated cell asks at a help desk on the disk before the simulated one answers."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from robin_grasp.recovery.help_desk import HelpDesk
from robin_grasp.recovery.help_request import BY_TIMEOUT, HelpCause, HelpRequest
from robin_perception.core.errors import RobinError

_LOOK_S = 0.1


class RealPerson:
    """Who answers at the page or by ``robin help answer``. folder: of the desk. wait_s: how long the cell waits, of
    this machine's time; 0: it only writes down what was asked and answered. pile: several cells ask at one desk."""

    def __init__(self, folder: Path, wait_s: float, pile: int) -> None:
        self._wait_s = wait_s
        self._desk = HelpDesk(folder, prefix=f"p{pile:05d}-")
        self._asked: HelpRequest | None = None

    def ask(self, cause: HelpCause, picture: bytes, otherwise: str) -> HelpRequest | None:
        """The answered request; None where nobody answered in time. otherwise: what is taken then."""
        shown = cause.model_copy(update={"timeout_s": self._wait_s, "timeout_answer": otherwise})
        self._asked = self._desk.ask(shown, picture=picture)
        while self._wait_s > 0 and self._asked.is_open:
            time.sleep(_LOOK_S)
            self._desk.tick()
            self._asked = self._desk.request(self._asked.help_id)
        return None if self._asked.is_open or self._asked.answered_by == BY_TIMEOUT else self._asked

    def tell(self, closed: HelpRequest) -> None:
        """What the simulated person answered in their place."""
        if self._asked is not None and self._asked.is_open:
            with contextlib.suppress(RobinError):  # somebody answered at this very moment
                self._desk.answer(self._asked.help_id, closed.answer, closed.answered_by)


def clear_desk(folder: Path) -> None:
    """Remove what an earlier run asked; nothing else."""
    for path in folder.glob("p[0-9][0-9][0-9][0-9][0-9]-*.*"):
        if path.suffix in (".json", ".jpg"):
            path.unlink(missing_ok=True)

"""A question to a person: what it is about, what may be answered, and what is done when nobody answers."""

from __future__ import annotations

from pydantic import Field

from robin_grasp.recovery.config import HelpConfig
from robin_perception.core.condition import Condition
from robin_perception.core.config import StrictConfig
from robin_perception.core.errors import Code, one_line
from robin_perception.core.ids import PlainId

DONE, SKIP, STOP = "done", "skip", "stop"
DELIVER, SET_DOWN = "deliver", "set_down"
BY_TIMEOUT = "timeout"
LONGEST_WORD = 200


class HelpCause(StrictConfig):
    """What is asked, before it has an id. answers: what may be answered. timeout_s: 0 waits for ever."""

    code: Code
    text: str
    answers: tuple[str, ...] = Field(min_length=1, max_length=16)
    timeout_s: float = Field(ge=0, le=86400)
    timeout_answer: str


class HelpRequest(HelpCause):
    """As it is kept and shown. plan_id: of the pick that it is about, empty for none. picture: name of a JPEG beside
    it, empty for none. answer: empty while it is open."""

    version: int = Field(1, ge=1, le=1)
    help_id: PlainId
    plan_id: str = Field("", max_length=128)
    asked_s: float
    picture: str = Field("", max_length=LONGEST_WORD)
    answer: str = Field("", max_length=LONGEST_WORD)
    answered_by: str = Field("", max_length=LONGEST_WORD)
    answered_s: float = 0.0

    @property
    def is_open(self) -> bool:
        return not self.answer


def load_cause(text: str, config: HelpConfig) -> HelpCause:
    """A load hangs on the tool that may be wrong. done: a person took it off."""
    answers = (DELIVER, SET_DOWN, DONE, STOP)
    return _cause(Code.LOAD_DOUBTFUL, text, answers, config.load_timeout_s, SET_DOWN)


def parcel_cause(text: str, config: HelpConfig, code: Code = Code.PARCEL_NOT_HELD) -> HelpCause:
    """Parcels that no cup holds. done: a person removed them. skip: they stay."""
    return _cause(code, text, (DONE, SKIP, STOP), config.parcel_timeout_s, SKIP)


def failing_cause(text: str, config: HelpConfig) -> HelpCause:
    """Picks fail one after another. done: a person has put it right."""
    return _cause(Code.PICKS_FAILING, text, (DONE, STOP), config.station_timeout_s, STOP)


def station_cause(condition: Condition, config: HelpConfig) -> HelpCause:
    """The station is not in order. done: a person has put it right."""
    return _cause(condition.code, condition.text or condition.name, (DONE, STOP), config.station_timeout_s, STOP)


def _cause(code: Code, text: str, answers: tuple[str, ...], timeout_s: float, timeout_answer: str) -> HelpCause:
    return HelpCause(
        code=code, text=one_line(text), answers=answers, timeout_s=timeout_s, timeout_answer=timeout_answer
    )

"""The table of the recovery policy: (moment, what is seen, doubt, tries) → action. The first row that fits counts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from robin_grasp.recovery.action import MEANING, Action
from robin_grasp.recovery.config import RecoveryConfig
from robin_perception.core.errors import Code


class State(str, Enum):
    """look: before a pick. held: the load hangs on the tool at the place station. ended: the pick is over. waiting: for
    a person. stopped: until the cell is started again."""

    LOOK = "look"
    HELD = "held"
    ENDED = "ended"
    WAITING = "waiting"
    STOPPED = "stopped"


class Seen(str, Enum):
    """What is found or judged.

    Before a pick: clear, slow_down, look_again and stop as the gravest condition of the station asks; unclear: looked
    again often enough; left_over: only parcels that were given up are left; seldom_held: the same,
    and some of them are goods that were seldom held.
    Of a load and of a pick that is over: clean; nothing: miss or drop; apart: two parcels, and it is known which cups
    hold the second; multi; wrong; unknown: not judged.
    Of a pick that is over: gone: delivered, but two or another parcel; back: the load was set down; taken: a person
    took it; failing: the last of too many failures in a row.
    """

    CLEAR = "clear"
    SLOW_DOWN = "slow_down"
    LOOK_AGAIN = "look_again"
    UNCLEAR = "unclear"
    STOP = "stop"
    LEFT_OVER = "left_over"
    SELDOM_HELD = "seldom_held"
    CLEAN = "clean"
    NOTHING = "nothing"
    APART = "apart"
    MULTI = "multi"
    WRONG = "wrong"
    UNKNOWN = "unknown"
    GONE = "gone"
    BACK = "back"
    TAKEN = "taken"
    FAILING = "failing"


class Doubt(str, Enum):
    """Of a judgement: whether its probability reaches ``sure_from``."""

    SURE = "sure"
    DOUBTFUL = "doubtful"


SEEN_IN = {
    State.LOOK: (
        Seen.CLEAR,
        Seen.SLOW_DOWN,
        Seen.LOOK_AGAIN,
        Seen.UNCLEAR,
        Seen.STOP,
        Seen.LEFT_OVER,
        Seen.SELDOM_HELD,
    ),
    State.HELD: (Seen.CLEAN, Seen.NOTHING, Seen.APART, Seen.MULTI, Seen.WRONG, Seen.UNKNOWN),
    State.ENDED: (Seen.CLEAN, Seen.NOTHING, Seen.GONE, Seen.BACK, Seen.TAKEN, Seen.FAILING, Seen.UNKNOWN),
}
_AFTER = {
    Action.GO_ON: State.LOOK,
    Action.GO_SLOWLY: State.LOOK,
    Action.LOOK_AGAIN: State.LOOK,
    Action.DELIVER: State.ENDED,
    Action.PUT_BACK: State.HELD,
    Action.SET_DOWN: State.ENDED,
    Action.OTHER_CUPS: State.LOOK,
    Action.OTHER_POSE: State.LOOK,
    Action.OTHER_PARCEL: State.LOOK,
    Action.MARK_DESTINATION: State.LOOK,
    Action.ASK_HELP: State.WAITING,
    Action.STOP: State.STOPPED,
}


@dataclass(frozen=True)
class Rule:
    """One row. doubt: None for either. tries: from, below (None: no limit); of the pick's set-downs in ``held``, of
    failed tries of the parcel with this one in ``ended``, of requests for help in a row in ``look``. code: of the
    request for help or of the mark; OK where the condition's own counts."""

    state: State
    seen: tuple[Seen, ...]
    action: Action
    why: str
    doubt: Doubt | None = None
    tries: tuple[int, int | None] = (0, None)
    code: Code = Code.OK

    @property
    def next_state(self) -> State:
        starts = self.state is State.LOOK and self.action in (Action.GO_ON, Action.GO_SLOWLY)
        return State.HELD if starts else _AFTER[self.action]

    def fits(self, state: State, seen: Seen, doubt: Doubt, tries: int) -> bool:
        least, below = self.tries
        counted = tries >= least and (below is None or tries < below)
        return self.state is state and seen in self.seen and self.doubt in (None, doubt) and counted


def recovery_table(config: RecoveryConfig) -> tuple[Rule, ...]:
    """The policy under these limits."""
    return (*_before_a_pick(config), *_with_a_load(config), *_after_a_pick(config))


def _before_a_pick(config: RecoveryConfig) -> tuple[Rule, ...]:
    look, asks = State.LOOK, config.helps_in_a_row
    needs_help = (Seen.STOP, Seen.UNCLEAR, Seen.LEFT_OVER, Seen.SELDOM_HELD)
    why_stop = "a person was asked again and again, and no pick has gone well since"
    return (
        Rule(look, needs_help, Action.STOP, why_stop, tries=(asks, None)),
        Rule(look, (Seen.STOP,), Action.ASK_HELP, "the station is not in order"),
        Rule(look, (Seen.LOOK_AGAIN,), Action.LOOK_AGAIN, "the next image may be better"),
        Rule(look, (Seen.UNCLEAR,), Action.ASK_HELP, "images do not get better by themselves"),
        Rule(
            look,
            (Seen.LEFT_OVER,),
            Action.ASK_HELP,
            "only parcels that could not be picked are left: remove them by hand",
            code=Code.PARCEL_NOT_HELD,
        ),
        Rule(
            look,
            (Seen.SELDOM_HELD,),
            Action.ASK_HELP,
            "only goods that were seldom held are left: remove them by hand",
            code=Code.GOODS_SELDOM_HELD,
        ),
        Rule(look, (Seen.SLOW_DOWN,), Action.GO_SLOWLY, "what is seen is less sure, so less force"),
        Rule(look, (Seen.CLEAR,), Action.GO_ON, "nothing stands against it"),
    )


def _with_a_load(config: RecoveryConfig) -> tuple[Rule, ...]:
    held, bad, most = State.HELD, (Seen.APART, Seen.MULTI, Seen.WRONG), config.set_downs
    return (
        Rule(held, (Seen.CLEAN,), Action.DELIVER, "the load is what was meant"),
        Rule(held, (Seen.NOTHING,), Action.DELIVER, "nothing hangs on the tool"),
        Rule(held, (Seen.UNKNOWN,), Action.DELIVER, "nobody can judge it"),
        Rule(held, (Seen.APART,), Action.PUT_BACK, "the second parcel hangs on cups of its own", Doubt.SURE),
        Rule(held, bad, Action.SET_DOWN, "nothing wrong may leave the cell", Doubt.SURE, (0, most)),
        Rule(
            held,
            bad,
            Action.SET_DOWN,
            "it may be wrong: another look costs less than a mistake",
            Doubt.DOUBTFUL,
            (0, min(most, config.doubtful_set_downs)),
        ),
        Rule(
            held,
            bad,
            Action.ASK_HELP,
            "setting it down did not help: look at the load",
            code=Code.LOAD_DOUBTFUL,
        ),
    )


def _after_a_pick(config: RecoveryConfig) -> tuple[Rule, ...]:
    ended, failed = State.ENDED, (Seen.NOTHING, Seen.BACK)
    poses_from = config.cups_tries + 1
    parcels_from = poses_from + config.pose_tries
    return (
        Rule(ended, (Seen.CLEAN, Seen.TAKEN), Action.GO_ON, "the parcel is gone"),
        Rule(ended, (Seen.UNKNOWN,), Action.GO_ON, "nobody can judge it"),
        Rule(
            ended,
            (Seen.GONE,),
            Action.MARK_DESTINATION,
            "it is known too late: what was put down is not what was meant",
            code=Code.DESTINATION_WRONG,
        ),
        Rule(
            ended,
            (Seen.FAILING,),
            Action.ASK_HELP,
            "one try after another fails: look at tool and pile",
            code=Code.PICKS_FAILING,
        ),
        Rule(ended, failed, Action.OTHER_CUPS, "other cups may hold", tries=(0, poses_from)),
        Rule(ended, failed, Action.OTHER_POSE, "another place may hold", tries=(poses_from, parcels_from)),
        Rule(ended, failed, Action.OTHER_PARCEL, "this parcel takes more time than it is worth"),
    )


def rule_for(table: tuple[Rule, ...], state: State, seen: Seen, doubt: Doubt, tries: int) -> Rule:
    """The first row that fits; every situation has one (a test goes through all)."""
    return next(rule for rule in table if rule.fits(state, seen, doubt, tries))


def table_rows(config: RecoveryConfig) -> list[tuple[str, ...]]:
    """As people read it: state, seen, doubt, tries, action, next state, why."""
    return [
        (
            rule.state.value,
            ", ".join(seen.value for seen in rule.seen),
            "any" if rule.doubt is None else rule.doubt.value,
            _range(*rule.tries),
            rule.action.value,
            rule.next_state.value,
            rule.why,
        )
        for rule in recovery_table(config)
    ]


TABLE_HEADER = ("state", "seen", "doubt", "tries", "action", "next", "why")


def table_markdown(config: RecoveryConfig) -> str:
    """The table and what its actions mean, as the page on recovery shows them."""
    actions = [(action.value, meaning) for action, meaning in MEANING.items()]
    return f"{_markdown(TABLE_HEADER, table_rows(config))}\n{_markdown(('action', 'what the cell does'), actions)}"


def _markdown(header: tuple[str, ...], rows: list[tuple[str, ...]] | list[tuple[str, str]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _range(least: int, below: int | None) -> str:
    if below is None:
        return "any" if least == 0 else f"{least} or more"
    return f"below {below}" if least == 0 else str(least) if below == least + 1 else f"{least} to {below - 1}"

"""The rules of bring-up, on nodes whose lifecycle is played in memory and on a clock that only the test moves."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from robin_bringup.bring_up import BringUp, BringUpLimits
from robin_perception.core.errors import Code

LIMITS = BringUpLimits(
    appear_timeout_s=5, attempts=3, retry_delay_s=1, silence_s=10, recoveries=2, recovery_window_s=100
)
AFTER = {"configure": "inactive", "activate": "active", "deactivate": "inactive", "cleanup": "unconfigured"}


@dataclass
class PlayedNodes:
    """Nodes by name. refuse: (node, transition) -> how many times it still fails. silent: who does not answer.
    gone: whose process has ended.

    lose: "request" or "reply" -> how many are lost. slow: for how many questions a node at a transition is silent.
    """

    states: dict[str, str]
    refuse: dict[tuple[str, str], int] = field(default_factory=dict)
    hang: set[tuple[str, str]] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    reasons: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    lose: dict[str, int] = field(default_factory=dict)
    slow: dict[tuple[str, str], int] = field(default_factory=dict)

    def state(self, node: str, timeout_s: float) -> str | None:
        for (name, transition), left in self.slow.items():
            if name == node and (name, transition) in self.asked and left > 0:
                self.slow[name, transition] -= 1
                self.states[node] = AFTER[transition]
                return None
        return None if node in self.silent else self.states[node]

    def change(self, node: str, transition: str, timeout_s: float) -> bool | None:
        self.asked.append((node, transition))
        if (node, transition) in self.hang or self._lost("request") or self.slow.get((node, transition)):
            return None
        if self.refuse.get((node, transition), 0) > 0:
            self.refuse[node, transition] -= 1
            return False
        self.states[node] = AFTER[transition]
        return None if self._lost("reply") else True

    def _lost(self, what: str) -> bool:
        self.lose[what] = self.lose.get(what, 0) - 1
        return self.lose[what] >= 0

    def reason(self, node: str) -> str:
        return self.reasons.get(node, "")

    def present(self, node: str) -> bool:
        return node not in self.gone


class Bench:
    """A manager over two nodes, ``camera`` first."""

    def __init__(self) -> None:
        self.nodes = PlayedNodes({"camera": "unconfigured", "planning": "unconfigured"})
        self.said: list[str] = []
        self.errors: list[str] = []
        self.now = 0.0
        self.manager = BringUp(
            ("camera", "planning"), self.nodes, LIMITS, self.say, clock=lambda: self.now, sleep=self.sleep
        )

    def say(self, text: str, error: bool = False) -> None:
        (self.errors if error else self.said).append(text)

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 1e-3)

    def phases(self) -> dict[str, str]:
        return {name: node.phase for name, node in self.manager.nodes.items()}


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_nodes_come_up_in_order_and_go_down_in_reverse(bench: Bench) -> None:
    assert bench.manager.bring_up()
    assert bench.nodes.asked == [
        ("camera", "configure"), ("camera", "activate"), ("planning", "configure"), ("planning", "activate"),
    ]  # fmt: skip
    bench.nodes.asked.clear()
    bench.manager.take_down()
    assert bench.nodes.asked == [
        ("planning", "deactivate"), ("camera", "deactivate"), ("planning", "cleanup"), ("camera", "cleanup"),
    ]  # fmt: skip
    assert set(bench.nodes.states.values()) == {"unconfigured"}


def test_a_failed_configure_is_tried_again(bench: Bench) -> None:
    bench.nodes.refuse["camera", "configure"] = 2
    assert bench.manager.bring_up()
    assert bench.nodes.asked.count(("camera", "configure")) == 3
    assert bench.now >= 2 * LIMITS.retry_delay_s


def test_a_node_that_cannot_come_up_is_given_up_with_its_reason_and_the_others_go_on(bench: Bench) -> None:
    bench.nodes.refuse["camera", "configure"] = 99
    bench.nodes.reasons["camera"] = "E111 CAMERA_NOT_FOUND: no camera"
    assert not bench.manager.bring_up()
    assert bench.phases() == {"camera": "failed", "planning": "active"}
    assert bench.manager.settled
    camera = bench.manager.nodes["camera"]
    assert camera.code == Code.TRANSITION_FAILED
    assert "E111 CAMERA_NOT_FOUND" in camera.text
    assert bench.nodes.asked.count(("camera", "configure")) == LIMITS.attempts
    asked = len(bench.nodes.asked)
    for _ in range(20):
        bench.manager.watch()
    assert len(bench.nodes.asked) == asked, "given up means given up"
    bench.nodes.refuse.clear()
    bench.manager.release()
    assert bench.manager.bring_up(), "until somebody asks for it"


def test_a_node_that_does_not_appear_costs_its_timeout_only(bench: Bench) -> None:
    bench.nodes.silent.add("camera")
    bench.manager.bring_up()
    assert bench.phases() == {"camera": "failed", "planning": "active"}
    assert bench.manager.nodes["camera"].code == Code.NODE_UNREACHABLE
    spent = LIMITS.attempts * LIMITS.appear_timeout_s + LIMITS.attempts * LIMITS.retry_delay_s
    assert bench.now <= spent + 1


def test_a_node_that_hangs_in_configure_is_a_timeout(bench: Bench) -> None:
    bench.nodes.hang.add(("camera", "configure"))
    bench.manager.bring_up()
    assert bench.manager.nodes["camera"].code == Code.TRANSITION_TIMEOUT


@pytest.mark.parametrize(("what", "asked"), [("request", 3), ("reply", 1)])
def test_what_is_lost_on_the_way_is_made_up_for(bench: Bench, what: str, asked: int) -> None:
    bench.nodes.lose[what] = 2
    assert bench.manager.bring_up()
    assert bench.nodes.asked.count(("camera", "configure")) == asked
    assert bench.now < LIMITS.retry_delay_s, "within the same attempt"


def test_a_node_that_takes_long_is_asked_once(bench: Bench) -> None:
    bench.nodes.slow["camera", "configure"] = 40  # it loads a model, and answers nobody meanwhile
    assert bench.manager.bring_up()
    assert bench.nodes.asked.count(("camera", "configure")) == 1


def test_a_node_that_is_brought_up_again_does_not_count_as_active_meanwhile(bench: Bench) -> None:
    bench.manager.bring_up()
    told: list[tuple[str, str, bool, int]] = []

    def say(line: str, error: bool = False) -> None:
        """What whoever reads the status file sees with each line."""
        camera = bench.manager.nodes["camera"]
        told.append((camera.phase, camera.text, bench.manager.all_active, camera.recovered))

    bench.manager._say = say
    bench.nodes.states["camera"] = "unconfigured"
    bench.manager.watch()
    assert told == [("waiting", "came back unconfigured", False, 1), ("active", "", True, 1)]


def test_a_node_started_again_is_brought_up_again_but_not_for_ever(bench: Bench) -> None:
    bench.manager.bring_up()
    for _ in range(LIMITS.recoveries):
        bench.nodes.states["camera"] = "unconfigured"
        bench.manager.watch()
        assert bench.phases()["camera"] == "active"
    bench.nodes.states["camera"] = "unconfigured"
    bench.manager.watch()
    assert bench.phases()["camera"] == "failed"
    assert "given up" in bench.manager.nodes["camera"].text
    assert bench.manager.nodes["camera"].recovered == LIMITS.recoveries


def test_recoveries_count_within_their_window_only(bench: Bench) -> None:
    bench.manager.bring_up()
    for _ in range(3 * LIMITS.recoveries):
        bench.now += LIMITS.recovery_window_s
        bench.nodes.states["camera"] = "unconfigured"
        bench.manager.watch()
        assert bench.phases()["camera"] == "active"


def test_a_node_that_died_while_it_failed_gets_another_chance(bench: Bench) -> None:
    bench.nodes.refuse["camera", "configure"] = LIMITS.attempts
    bench.manager.bring_up()
    bench.nodes.silent.add("camera")
    bench.manager.watch()
    bench.nodes.silent.clear()
    bench.manager.watch()
    assert bench.manager.all_active


def test_what_somebody_else_deactivated_stays_so(bench: Bench) -> None:
    bench.manager.bring_up()
    bench.manager.hold("camera")
    bench.nodes.states["camera"] = "inactive"
    bench.manager.watch()
    bench.nodes.states["camera"] = "unconfigured"
    bench.nodes.asked.clear()
    bench.manager.watch()
    assert bench.nodes.asked == []
    assert bench.phases() == {"camera": "held", "planning": "active"}
    bench.nodes.states["camera"] = "active"
    bench.manager.watch()
    assert bench.manager.all_active, "until it is active again"


def test_silence_is_a_fault_only_after_a_while_and_nothing_is_done_to_the_node(bench: Bench) -> None:
    bench.manager.bring_up()
    bench.nodes.asked.clear()
    bench.nodes.silent.add("camera")
    bench.now += LIMITS.silence_s / 2
    bench.manager.watch()
    assert bench.manager.all_active
    bench.now += LIMITS.silence_s
    bench.manager.watch()
    assert bench.phases()["camera"] == "lost"
    assert bench.nodes.asked == []
    bench.nodes.silent.clear()
    bench.manager.watch()
    assert bench.manager.all_active


def test_ending_interrupts_the_waits() -> None:
    bench = Bench()
    bench.manager.stopping = lambda: bench.now > 1.0
    bench.nodes.silent = {"camera", "planning"}
    assert not bench.manager.bring_up()
    assert bench.now < 2.0


def test_lost_nodes_and_give_ups_are_errors_and_what_goes_well_is_not(bench: Bench) -> None:
    bench.manager.bring_up()
    assert bench.errors == [] and bench.said == ["camera: active", "planning: active"]
    bench.nodes.silent.add("camera")
    bench.now += 2 * LIMITS.silence_s
    bench.manager.watch()
    assert bench.errors.pop() == "E621 NODE_UNREACHABLE: camera: no answer for 20 s"
    bench.nodes.silent.clear()
    for _ in range(LIMITS.recoveries + 1):
        bench.nodes.states["planning"] = "unconfigured"
        bench.manager.watch()
    assert bench.errors == ["E601 NODE_NOT_ACTIVE: planning: started again 2 times within 100 s, given up"]
    bench.errors.clear()
    bench.nodes.refuse["camera", "configure"] = 99
    bench.nodes.states["camera"] = "unconfigured"
    bench.manager.watch()
    ends = [line.split("(")[1] for line in bench.errors]
    assert ends == ["again after attempt 1)", "again after attempt 2)", "given up after attempt 3)"]


def test_a_node_that_does_not_go_down_is_an_error_and_one_that_ends_meanwhile_is_not(bench: Bench) -> None:
    bench.manager.bring_up()
    bench.nodes.silent = {"camera", "planning"}
    bench.nodes.gone = {"planning"}
    bench.said.clear()
    bench.manager.take_down()
    assert bench.said == ["planning: ended by itself"]
    (error,) = bench.errors
    assert error.startswith("E623 TRANSITION_TIMEOUT: camera: did not deactivate in time")
    assert LIMITS.stop_timeout_s <= bench.now < LIMITS.stop_timeout_s + 1, "it had the whole time, and no more"


def test_a_node_that_refuses_to_go_down_is_an_error_at_once(bench: Bench) -> None:
    bench.manager.bring_up()
    bench.nodes.refuse["camera", "deactivate"] = 1
    bench.manager.take_down()
    assert bench.errors == ["E622 TRANSITION_FAILED: camera: cannot deactivate, left as it is"]
    assert bench.nodes.states == {"camera": "active", "planning": "unconfigured"}
    assert bench.now < 1.0

"""Which version of the model runs on a robot: fetched, told to the segmentation node, watched over, taken back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from lifecycle_msgs.msg import Transition, TransitionEvent
from robin_msgs.msg import PickOutcome
from robin_msgs.srv import LoadModel
from std_srvs.srv import Trigger

from edge_adapt.models.registry import ModelRegistry
from edge_adapt.models.state import FACTORY
from edge_adapt.models.told import status
from edge_adapt.models.watch import VersionWatch
from edge_adapt.node_config import AdaptationNodeConfig
from edge_adapt.releases.child import ReleaseChild
from edge_adapt.releases.config import LookOrder
from robin_grasp.nodes.convert import outcome_from_msg
from robin_grasp.picks.outcome import PickResult
from robin_grasp.picks.outcome_report import Stage
from robin_perception.core.errors import Code, RobinError
from robin_perception.nodes.base import RobinNode
from robin_perception.nodes.frame_bus import FrameBus
from robin_perception.nodes.qos import RESULT
from robin_perception.nodes.run import run_nodes
from robin_perception.topics import OUTCOME

_PERSON = "a service call"


class AdaptationNode(RobinNode[AdaptationNodeConfig]):
    """Looks at the registry as often as it publishes diagnostics, so that what the command line changes takes effect,
    too. Picks go on meanwhile: the segmentation node loads beside what runs."""

    def __init__(self, bus: FrameBus | None = None, **ros: Any) -> None:
        super().__init__("adaptation", AdaptationNodeConfig, bus=bus, **ros)
        self._registry: ModelRegistry | None = None
        self._told: int | None = None  # the version that the segmentation node was last told, and took
        self._asking: int | None = None
        self._shown: dict[str, str] = {}
        self._releases: ReleaseChild | None = None
        self._loader = self.create_client(LoadModel, "load_model")
        for name, call in (
            ("rollback", lambda registry: registry.rollback(_PERSON, "asked for")),
            ("pin", lambda registry: registry.pin(_PERSON, "asked for")),
            ("unpin", lambda registry: registry.unpin(_PERSON, "asked for")),
        ):
            self.create_service(Trigger, f"~/{name}", self._answer(name, call))

    def setup(self) -> None:
        registry = ModelRegistry(self.config.models, self.config.factory)
        if registry.used:
            registry.load()
        self._watch = VersionWatch(self.config.watch)
        self._registry = registry
        if self.config.releases.source:
            order = LookOrder(releases=self.config.releases, models=self.config.models, factory=self.config.factory)
            self._releases = ReleaseChild(order)
        self._nothing_told(registry)
        self.add_subscription(PickOutcome, OUTCOME, self._outcome, RESULT)
        self.add_subscription(TransitionEvent, "segmentation/transition_event", self._began_anew, 10)

    def stop(self) -> None:
        if self._releases is not None:
            self._releases.stop()

    def teardown(self) -> None:
        self._registry = self._releases = None

    def status_values(self) -> dict[str, str]:
        return self._shown

    def watch(self) -> None:
        if self._registry is not None and self.is_active:
            self._fetch()
            try:
                self._look(self._registry)
            except RobinError as exc:
                self.report_exception(exc, warning=True)

    def _fetch(self) -> None:
        """What came of the process that looks for releases; a fleet that is away is a warning and nothing more."""
        if self._releases is None:
            return
        happened, fault = self._releases.step()
        for line in happened:
            self.get_logger().info(line)
        if fault is not None:
            self.report(fault.code, fault.text, warning=True)

    def _look(self, registry: ModelRegistry) -> None:
        """Tell the segmentation node what should run, where that has changed or the node was started anew."""
        if not registry.used:
            self._shown = {"version": "", "why": f"no version in {registry.folder} yet"}
            return
        if not self._loader.service_is_ready():
            self._nothing_told(registry)
            self.report(Code.SERVICE_UNAVAILABLE, "nobody offers load_model; is segmentation running?", warning=True)
            return
        if self._asking is not None or registry.state().active == self._told:
            return
        loaded = registry.load()
        if loaded.problem is not None:
            self.report(loaded.problem.code, loaded.problem.text)
            registry.fall_back(loaded, self.get_name())
        self._asking = loaded.version
        path = str(registry.path(loaded.version).absolute())
        future = self._loader.call_async(LoadModel.Request(path=path, version=str(loaded.version)))
        future.add_done_callback(lambda done: self._loaded(registry, loaded.version, done.result()))

    def _began_anew(self, message: Any) -> None:
        """A segmentation node that was configured again runs the bundle of its parameters."""
        if message.transition.id == Transition.TRANSITION_CONFIGURE and self._registry is not None:
            self._nothing_told(self._registry)

    def _nothing_told(self, registry: ModelRegistry) -> None:
        """Segmentation runs what its parameters name. Where there are no versions yet, that is the factory's."""
        self._told = self._asking = None
        if not registry.used:
            self._told = FACTORY
            self._watch.changed(FACTORY)

    def _loaded(self, registry: ModelRegistry, version: int, reply: Any) -> None:
        self._asking = None
        if not reply.code:
            self._told = version
            self._watch.changed(version)
            told = status(registry)
            self._shown = {key: str(told[key]) for key in ("version", "model_id", "pinned", "since", "why")}
            self._shown["how"] = reply.how
            self.get_logger().info(f"version {version} runs: {reply.model_id} ({reply.how}, {reply.took_s:.1f} s)")
            return
        text = f"version {version}: load_model answers E{reply.code}: {reply.text}"
        if reply.code // 100 != 2:  # of paths or states: it is asked again
            self.report(Code(reply.code), text, warning=True)
        else:  # the model's or its engine's fault
            self.report(Code.VERSION_DAMAGED, text)
            self._guarded(lambda: registry.give_up(version, self.get_name(), text))

    def _outcome(self, message: Any) -> None:
        report = outcome_from_msg(message)
        if self._registry is None or report.stage is Stage.HELD or report.result is None or self._told is None:
            return
        error = self._watch.note(report.result is PickResult.CLEAN)
        if error is not None:
            self.report(error.code, error.text)
            self._registry.rollback("watch", error.text, {"code": int(error.code)})

    def _answer(self, name: str, call: Callable[[ModelRegistry], object]) -> Callable[[Any, Any], Any]:
        def answer(request: Any, response: Any) -> Any:
            del request
            if self._registry is None:
                fault: RobinError | None = RobinError(Code.NODE_NOT_ACTIVE, f"{name}: the node is not configured")
            else:
                registry = self._registry
                fault = self._guarded(lambda: call(registry))
            response.success = fault is None
            response.message = "" if fault is None else str(fault)
            return response

        return answer

    def _guarded(self, call: Callable[[], object]) -> RobinError | None:
        try:
            call()
        except RobinError as exc:
            self.report_exception(exc, warning=True)
            return exc
        return None


def main(args: Sequence[str] | None = None) -> int:
    """``ros2 run edge_adapt adaptation_node``"""
    return run_nodes(lambda: [AdaptationNode()], args)


if __name__ == "__main__":
    sys.exit(main())

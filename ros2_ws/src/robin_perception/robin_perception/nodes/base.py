"""What every node does: typed parameters, lifecycle with numbered failures, guarded services, counters, diagnostics.

Threads: lifecycle, services, subscriptions and parameters run in the executor's thread, one at a time. Workers of a
node may call ``report``, ``counters`` and publish; they are started in ``start`` and have ended when ``stop`` returns.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any, Generic

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions

from robin_perception.core.counters import Counters, Fault
from robin_perception.core.errors import Code, RobinError
from robin_perception.node_config import NodeConfigT
from robin_perception.node_parameters import QOS_OVERRIDES
from robin_perception.nodes.diagnostics import Health, log_line, status
from robin_perception.nodes.fault_log import FaultLog
from robin_perception.nodes.frame_bus import FrameBus
from robin_perception.nodes.parameters import NodeParameters
from robin_perception.nodes.qos import own_profile
from robin_perception.nodes.replies import reply_from

UNCONFIGURED, INACTIVE, ACTIVE, FINALIZED = "unconfigured", "inactive", "active", "finalized"


class RobinNode(LifecycleNode, Generic[NodeConfigT]):
    """Base of the nodes. A subclass overrides ``setup``, ``start``, ``stop``, ``teardown`` and gives what else it has.

    ``setup`` and ``start`` raise RobinError when they cannot: the transition fails with that code in the log and in
    /diagnostics, and the node stays where it was. ``teardown`` must also do after a ``setup`` that failed half-way.
    bus: where the process hosts several nodes, images go through it instead of a socket.
    ros: handed to ``rclpy``'s node (namespace, parameter_overrides, ...).
    """

    def __init__(self, name: str, config_type: type[NodeConfigT], bus: FrameBus | None = None, **ros: Any) -> None:
        super().__init__(name, **ros)
        self.bus = bus
        self.counters = Counters()
        self._phase = UNCONFIGURED
        self._standing: Fault | None = None
        self._faults = FaultLog(self.counters, self.get_logger())
        self._entities: list[Callable[[], Any]] = []
        self._parameters_of_node: NodeParameters[NodeConfigT] = NodeParameters(
            self,
            config_type,
            lambda: self._phase == UNCONFIGURED,
            self.check_parameters,
            self.parameters_changed,
        )
        self._refuse_impossible_transitions()
        jump = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True)
        self._jumps = self.get_clock().create_jump_callback(jump, post_callback=self._jumped)
        self._started_s = time.monotonic()
        self._last_log = (time.monotonic(), "")
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        period = 1.0 / self.config.diagnostics_rate_hz
        self._timer = self.create_timer(period, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))
        if (fault := self._parameters_of_node.fault) is not None:
            self._stand(fault.code, fault.text)

    # What a subclass gives.

    def setup(self) -> None:
        """Configure: load models, make publishers and subscriptions (``add_publisher``, ``add_subscription``)."""

    def start(self) -> None:
        """Activate: begin to work."""

    def stop(self) -> None:
        """Deactivate: no work is under way when this returns."""

    def teardown(self) -> None:
        """Release what ``setup`` took; what was added with ``add_...`` is released by the base."""

    def check_parameters(self, config: NodeConfigT) -> None:
        """Raise RobinError to refuse parameters that are each in range but do not go together."""

    def parameters_changed(self, old: NodeConfigT, new: NodeConfigT) -> None:
        """``config`` is now ``new``; while configured only fields marked DYNAMIC differ."""

    def time_jumped(self) -> None:
        """ROS time jumped back (a recording began anew) or is another clock now: forget what waits for later stamps."""

    def watch(self) -> None:
        """Called as often as /diagnostics is published: the place to notice that something has not happened."""

    def more_statuses(self) -> list[DiagnosticStatus]:
        """What /diagnostics shows beside the node's own status."""
        return []

    def status_values(self) -> dict[str, str]:
        """Keys and values for /diagnostics and the log beside the counters."""
        return {}

    # What a subclass uses.

    @property
    def config(self) -> NodeConfigT:
        """Parameters in force: one frozen object, replaced as a whole."""
        return self._parameters_of_node.config

    @property
    def phase(self) -> str:
        """ "unconfigured", "inactive", "active" or "finalized"."""
        return self._phase

    @property
    def is_active(self) -> bool:
        return self._phase == ACTIVE

    @property
    def simulated_time(self) -> bool:
        """Whether time is what ``/clock`` says (``use_sim_time``)."""
        return bool(self.get_clock().ros_time_is_active)

    def now_s(self) -> float:
        """ROS time, s: what stamps and their ages are told in."""
        return float(self.get_clock().now().nanoseconds * 1e-9)

    def data_clock_s(self) -> float:
        """For timeouts about data, s: simulated time where there is one, else a clock that nobody sets."""
        return self.now_s() if self.simulated_time else time.monotonic()

    def report(self, code: Code, text: str, warning: bool = False, lasting: bool = False) -> bool:
        """Count a fault for /diagnostics and log it: at once, then at growing intervals. Any thread.

        lasting: it lasts until ``recovered``, as a camera that is gone. Returns whether it was logged.
        """
        return self._faults.report(code, text, warning, lasting)

    def recovered(self, what: str, *codes: Code) -> None:
        """These faults are over; one line says so where there were any. Any thread."""
        self._faults.recovered(what, *codes)

    def report_exception(self, exc: Exception, warning: bool = False) -> None:
        """``report`` an expected failure by its code; anything else as INTERNAL_ERROR, its traceback in the log."""
        self._faults.report_exception(exc, warning)

    def add_publisher(self, message: type[Any], topic: str, qos: QoSProfile | int) -> Any:
        """A publisher that is silent unless the node is active; released at cleanup."""
        publisher = self.create_lifecycle_publisher(
            message, topic, own_profile(qos), qos_overriding_options=self._qos_overriding(topic, "publisher")
        )
        self._entities.append(lambda: self.destroy_lifecycle_publisher(publisher))
        return publisher

    def add_subscription(
        self, message: type[Any], topic: str, callback: Callable[[Any], None], qos: QoSProfile | int, **options: Any
    ) -> Any:
        """A subscription whose callback runs only while the node is active, and whose failures are reported.

        options: of rclpy's ``create_subscription``; with ``raw=True`` the callback gets the serialized message, bytes.
        """

        def guarded(received: Any) -> None:
            if self._phase != ACTIVE:
                return
            try:
                callback(received)
            except Exception as exc:
                self.report_exception(exc)

        overriding = self._qos_overriding(topic, "subscription")
        subscription = self.create_subscription(
            message, topic, guarded, own_profile(qos), qos_overriding_options=overriding, **options
        )
        self._entities.append(lambda: self.destroy_subscription(subscription))
        return subscription

    def add_service(
        self,
        service: type[Any],
        name: str,
        handler: Callable[[Any, Any], Any],
        states: tuple[str, ...] = (ACTIVE,),
        pool: Executor | None = None,
    ) -> None:
        """A service that exists as long as the node, so that a node that is not ready can say so. Make it in __init__.

        handler(request, response) -> response. Replies have ``code`` and ``text``: in another state than ``states``
        NODE_NOT_ACTIVE, after a RobinError its code, after any other exception INTERNAL_ERROR. Only a handler that
        returned sends more than those two fields. pool: where the handler runs and replies from, for what takes long:
        the executor is free at once, and a reply does not wait for its next round.
        """

        def answer(request: Any) -> Any:
            with self._counted(name):
                try:
                    if self._phase not in states:
                        text = f"{self.get_name()} is {self._phase}, {name} needs {' or '.join(states)}"
                        raise RobinError(Code.NODE_NOT_ACTIVE, text)
                    return handler(request, service.Response())
                except RobinError as exc:
                    self.report_exception(exc, warning=True)
                    return service.Response(code=int(exc.code), text=exc.text)
                except Exception as exc:
                    self.report_exception(exc)
                    return service.Response(code=int(Code.INTERNAL_ERROR), text=str(exc))

        if pool is None:
            self.create_service(service, name, lambda request, _: answer(request))
        else:
            made = self.create_service(service, name, lambda request, _: request)
            reply_from(pool, made, answer, self.report_exception)

    def set_parameters_atomically(self, parameter_list: list[Parameter]) -> SetParametersResult:
        """As rclpy's, which the parameter services call, with a numbered reason for every refusal."""
        try:
            changes = self._parameters_of_node.checked(parameter_list)
        except RobinError as exc:
            return SetParametersResult(successful=False, reason=str(exc))
        return super().set_parameters_atomically(changes)

    @contextmanager
    def _counted(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.counters.count(name)
            self.counters.latency(name, (time.perf_counter() - begin) * 1e3)

    # Lifecycle, as rclpy calls it.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        if (fault := self._parameters_of_node.fault) is not None:
            self._stand(fault.code, fault.text)
            return TransitionCallbackReturn.FAILURE
        done = self._transition("configure", self.setup)
        if done != TransitionCallbackReturn.SUCCESS:
            self._release()
            return done
        self._phase = INACTIVE
        return done

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        super().on_activate(state)
        self._phase = ACTIVE  # before start: the first frame may come from within it
        done = self._transition("activate", self.start)
        if done != TransitionCallbackReturn.SUCCESS:
            self._phase = INACTIVE
            self._quietly(self.stop)
            super().on_deactivate(state)
        return done

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._phase = INACTIVE
        done = self._transition("deactivate", self.stop)
        super().on_deactivate(state)
        return done

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._phase = UNCONFIGURED
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        was, self._phase = self._phase, FINALIZED
        if was == ACTIVE:
            self._quietly(self.stop)
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an exception that nobody expected: let go of everything and be unconfigured again."""
        self._quietly(self.stop)
        self._phase = UNCONFIGURED
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def close(self) -> None:
        """End of the process: stop work and release, whatever the state. The node is destroyed afterwards."""
        if self._phase == FINALIZED:
            return
        self.trigger_shutdown()

    def autostart(self) -> None:
        """Configure and activate, if the parameter ``autostart`` says so; a failure leaves the node unconfigured."""
        if self.config.autostart and self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def _qos_overriding(self, topic: str, kind: str) -> QoSOverridingOptions | None:
        """Where the user overrides the quality of service of this topic; else nothing, for what rclpy has declared once
        would stand against a profile that the node itself changes."""
        prefix = f"{QOS_OVERRIDES}{self.resolve_topic_name(topic)}.{kind}."
        given = any(name.startswith(prefix) for name in self._parameters_of_node.qos_overrides)
        return QoSOverridingOptions.with_default_policies() if given else None

    def _refuse_impossible_transitions(self) -> None:
        """rclpy lets a request for a transition that does not exist in this state end the process."""
        service = next(service for service in self.services if service.srv_name.endswith("/change_state"))
        change = service.callback

        def guarded(request: Any, response: Any) -> Any:
            try:
                return change(request, response)
            except rclpy_implementation.RCLError:
                text = f"{self.get_name()} is {self._phase}: transition {request.transition.id} is not possible"
                self.report(Code.TRANSITION_INVALID, text, warning=True)
                response.success = False
                return response

        service.callback = guarded

    def _transition(self, name: str, step: Callable[[], None]) -> TransitionCallbackReturn:
        begin = time.perf_counter()
        try:
            step()
        except RobinError as exc:
            self._stand(exc.code, f"cannot {name}: {exc.text}")
            return TransitionCallbackReturn.FAILURE
        except Exception as exc:
            self.get_logger().error("".join(traceback.format_exception(exc)))
            self._stand(Code.INTERNAL_ERROR, f"cannot {name}: {type(exc).__name__}: {exc}")
            return TransitionCallbackReturn.ERROR
        self._standing = None
        self.get_logger().info(f"{name}: done in {(time.perf_counter() - begin) * 1e3:.0f} ms")
        return TransitionCallbackReturn.SUCCESS

    def _release(self) -> None:
        self._quietly(self.teardown)
        while self._entities:
            self._quietly(self._entities.pop())

    def _quietly(self, step: Callable[[], Any]) -> None:
        try:
            step()
        except Exception as exc:
            self.report_exception(exc)

    def _stand(self, code: Code, text: str) -> None:
        self._faults.begin_anew(code)  # every attempt is answered with a line of its own
        self.report(code, text)
        self._standing = Fault(code, text, 1, time.monotonic(), False)

    def _tick(self) -> None:
        try:
            self.watch()
            if self.simulated_time and self.now_s() == 0.0:
                self.report(Code.CLOCK_MISSING, "use_sim_time is true, and nothing has come on /clock", lasting=True)
            shown = [status(self.counters, self._health(), self._values), *self.more_statuses()]
            message = DiagnosticArray(status=shown)
            message.header.stamp = self.get_clock().now().to_msg()
            self._diagnostics.publish(message)
            self._log()
        except Exception as exc:
            self.report_exception(exc)

    def _jumped(self, jump: Any) -> None:
        self.get_logger().info("time jumped back, or is another clock now")
        self._quietly(self.time_jumped)

    def _health(self) -> Health:
        config = self.config
        return Health(
            self.get_fully_qualified_name(),
            self._phase,
            self._standing,
            config.fault_hold_s,
            config.disk_path,
            config.min_disk_free_gb,
        )

    def _values(self) -> dict[str, str]:
        uptime = time.monotonic() - self._started_s
        return {"pid": str(os.getpid()), "uptime_s": f"{uptime:.0f}", **self.status_values()}

    def _log(self) -> None:
        at, last = self._last_log
        now = time.monotonic()
        if now - at < self.config.log_period_s:
            return
        line = log_line(self.counters, self.status_values())
        self._last_log = (now, line)
        if line != last:
            self.get_logger().info(line)

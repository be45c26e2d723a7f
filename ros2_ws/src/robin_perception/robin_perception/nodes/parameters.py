"""A node's typed configuration as ROS parameters: declared with ranges, checked as a whole, applied as a whole."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, ParameterType, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from robin_perception.core.errors import Code, RobinError
from robin_perception.node_config import NodeConfigT, node_configs
from robin_perception.node_parameters import (
    QOS_OVERRIDES,
    ParameterSpec,
    config_from_flat,
    flatten,
    is_ros_parameter,
    parameter_specs,
)

_ROS_TYPES = {
    "bool": ParameterType.PARAMETER_BOOL,
    "integer": ParameterType.PARAMETER_INTEGER,
    "double": ParameterType.PARAMETER_DOUBLE,
    "string": ParameterType.PARAMETER_STRING,
    "bool_array": ParameterType.PARAMETER_BOOL_ARRAY,
    "integer_array": ParameterType.PARAMETER_INTEGER_ARRAY,
    "double_array": ParameterType.PARAMETER_DOUBLE_ARRAY,
    "string_array": ParameterType.PARAMETER_STRING_ARRAY,
}
_PYTHON_TYPES: dict[str, type] = {"bool": bool, "integer": int, "double": float, "string": str}
_OPEN_INTEGER = 2**62
_OPEN_FLOAT = 1e300


class NodeParameters(Generic[NodeConfigT]):
    """The parameters of one node.

    config: what is in force, always valid. fault: why what the node was started with is not, None once all is right;
    a node with a fault must not be configured. qos_overrides: names of those that it was started with.
    ``is_unconfigured`` tells whether all parameters may still change, ``check`` may refuse a new configuration
    (RobinError), ``changed`` is called after it is in force.
    """

    def __init__(
        self,
        node: Node,
        config_type: type[NodeConfigT],
        is_unconfigured: Callable[[], bool],
        check: Callable[[NodeConfigT], None],
        changed: Callable[[NodeConfigT, NodeConfigT], None],
    ) -> None:
        self._source = f"parameters of {node.get_name()}"
        self._type = config_type
        self._specs = parameter_specs(config_type)
        self._is_unconfigured, self._check, self._changed = is_unconfigured, check, changed
        self._wrong: dict[str, RobinError] = {}
        self.qos_overrides = [name for name in node._parameter_overrides if name.startswith(QOS_OVERRIDES)]
        self.config = config_type()
        start = self._start_values(node)
        for spec in self._specs.values():
            node.declare_parameter(spec.name, start[spec.name], _descriptor(spec), ignore_override=True)
        node.add_on_set_parameters_callback(self._on_set)
        node.add_post_set_parameters_callback(self._after_set)

    @property
    def fault(self) -> RobinError | None:
        return next(iter(self._wrong.values()), None)

    def checked(self, changes: Sequence[Parameter]) -> list[Parameter]:
        """``changes`` with the types that ROS was told, whole numbers turned into doubles where one is meant.

        Raises RobinError PARAMETER_LOCKED, CONFIG_OUT_OF_RANGE or what ``check`` says: rclpy would refuse some of these
        itself, but without a number.
        """
        self._check(self._candidate(changes))
        specs = self._specs
        return [
            Parameter(c.name, value=_typed(specs[c.name], c, self._source)) if c.name in specs else c for c in changes
        ]

    def _start_values(self, node: Node) -> dict[str, Any]:
        """Defaults with what YAML or command line gave instead, as far as valid; the rest goes to ``_wrong``."""
        given: dict[str, Any] = {}
        for name, override in node._parameter_overrides.items():
            try:
                if is_ros_parameter(name, override.value, self._source):
                    continue
                if name in self._specs:
                    given[name] = _typed(self._specs[name], override, self._source)
                else:
                    node.get_logger().info(f"parameter '{name}' is {self._owner(name)}'s, left out here")
            except RobinError as exc:
                self._wrong[name] = exc
        values: dict[str, Any] = flatten(self.config)
        # All at once, since some are right only together; where that fails, one by one, to keep what can be kept.
        try:
            self.config = config_from_flat(self._type, {**values, **given}, self._source)
            return {**values, **given}
        except RobinError:
            pass
        for name, value in given.items():
            try:
                self.config = config_from_flat(self._type, {**values, name: value}, self._source)
                values[name] = value
            except RobinError as exc:
                self._wrong[name] = exc
        return values

    def _owner(self, name: str) -> str:
        """The node that has this parameter: a wildcard of a file, or ``-p`` for a process, gives it to all of them."""
        owners = [node for node, config in node_configs().items() if name in parameter_specs(config)]
        if not owners:
            raise RobinError(Code.CONFIG_UNKNOWN_KEY, f"{self._source}: unknown key '{name}'")
        return owners[0]

    def _candidate(self, changes: Iterable[Parameter]) -> NodeConfigT:
        values: dict[str, Any] = flatten(self.config)
        for parameter in changes:
            spec = self._specs.get(parameter.name)
            if spec is None:
                continue
            value = _typed(spec, parameter, self._source)
            if not _same(value, values[spec.name]):
                self._refuse_locked(spec)
            values[spec.name] = value
        return config_from_flat(self._type, values, self._source)

    def _refuse_locked(self, spec: ParameterSpec) -> None:
        if spec.update == "start":
            text = f"{self._source}: '{spec.name}' is read once, when the node starts"
            raise RobinError(Code.PARAMETER_LOCKED, text)
        if spec.update == "unconfigured" and not self._is_unconfigured():
            text = f"{self._source}: '{spec.name}' can only change while the node is unconfigured"
            raise RobinError(Code.PARAMETER_LOCKED, text)

    def _on_set(self, changes: list[Parameter]) -> SetParametersResult:
        try:
            self._check(self._candidate(changes))
        except RobinError as exc:
            return SetParametersResult(successful=False, reason=str(exc))
        return SetParametersResult(successful=True)

    def _after_set(self, changes: list[Parameter]) -> None:
        old, self.config = self.config, self._candidate(changes)
        for parameter in changes:
            self._wrong.pop(parameter.name, None)
        if old != self.config:
            self._changed(old, self.config)


def _typed(spec: ParameterSpec, parameter: Parameter, source: str) -> Any:
    """The value as ``spec`` wants it; whole numbers do for doubles. Raises RobinError CONFIG_OUT_OF_RANGE."""
    value = parameter.value
    is_array = isinstance(value, (list, tuple, array))
    items = list(value) if is_array else [value]
    scalar = spec.kind.removesuffix("_array")
    if scalar == "double":
        items = [float(v) if type(v) is int else v for v in items]
    # type() and not isinstance: True is an int, but a switch is no number.
    if is_array != spec.is_array or not all(type(v) is _PYTHON_TYPES[scalar] for v in items):
        kind = spec.kind.replace("_", " ")
        raise RobinError(Code.CONFIG_OUT_OF_RANGE, f"{source}: '{spec.name}': needs a {kind} (got {value!r})")
    return items if spec.is_array else items[0]


def _same(a: Any, b: Any) -> bool:
    both_unset = a != a and b != b  # NaN
    return bool(both_unset or a == b)


def _descriptor(spec: ParameterSpec) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(
        name=spec.name,
        type=_ROS_TYPES[spec.kind],
        description=spec.description,
        additional_constraints=spec.constraints,
        read_only=spec.update == "start",
    )
    # ROS has ranges for single numbers only, and an unset one (NaN) lies in none.
    if (spec.low is None and spec.high is None) or spec.optional:
        return descriptor
    if spec.kind == "integer":
        low = -_OPEN_INTEGER if spec.low is None else int(spec.low)
        high = _OPEN_INTEGER if spec.high is None else int(spec.high)
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=0)]
    elif spec.kind == "double":
        low_m = -_OPEN_FLOAT if spec.low is None else spec.low
        high_m = _OPEN_FLOAT if spec.high is None else spec.high
        descriptor.floating_point_range = [FloatingPointRange(from_value=low_m, to_value=high_m, step=0.0)]
    return descriptor

"""The bundle's graph with the trunk in INT8: static, per channel, calibrated; pre-processing and head stay in float32.

What is quantised is found by what the graph is, not by names: every convolution with weights inside, and the operators
between and behind convolutions on the way to the trunk's outputs.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robin_perception.core.errors import Code, RobinError
from robin_perception.core.output import scratch_folder
from robin_perception.engines.base import Tensors
from robin_perception.model.bundle import FEATURE_OUTPUTS, FRAME_INPUTS, Bundle

if TYPE_CHECKING:
    import onnx

# Changed whenever the same bundle and frames would give another graph.
RECIPE = "1: QDQ, U8 activations by range, S8 weights per channel"

_BETWEEN = frozenset({"Conv", "Relu", "Add", "Concat", "MaxPool", "Resize"})
# Products of unsigned and signed bytes are summed in 16 bits, and saturate, on processors without one of these.
_FULL_RANGE_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"})
_CPU_FILE = Path("/proc/cpuinfo")


def quantised_graph(bundle: Bundle, calibration: Sequence[Tensors], reduce_range: bool) -> bytes:
    """The serialised graph. calibration: frames as inputs of the network, a few dozen of what the camera will see.

    reduce_range: weights of seven bits, for processors without instructions that sum byte products in 32 bits.
    Raises RobinError OPTION_INVALID without frames, ENGINE_FAILED when there is nothing to quantise or the tools
    refuse the graph, DEPENDENCY_MISSING without them, DISK_FULL.
    """
    if not calibration:
        raise RobinError(Code.OPTION_INVALID, "quantisation needs at least one frame to calibrate with")
    try:
        import onnx
        from onnxruntime import quantization as tools
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as exc:
        raise RobinError(Code.DEPENDENCY_MISSING, f"quantisation: {exc}; make setup") from None
    with scratch_folder("robin-int8-graph-") as folder, _one_line(bundle.network_path):
        network, folded, quantised = (folder / f"{name}.onnx" for name in ("network", "folded", "int8"))
        network.write_bytes(bundle.network_path.read_bytes())  # the tools do not take every name that a file can have
        quant_pre_process(str(network), str(folded), skip_symbolic_shape=True)
        nodes = trunk_nodes(onnx.load_model(str(folded)))
        if not nodes:
            raise RobinError(Code.ENGINE_FAILED, f"{bundle.network_path}: holds no convolution to quantise")
        tools.quantize_static(
            str(folded),
            str(quantised),
            _reader(bundle, calibration),
            quant_format=tools.QuantFormat.QDQ,
            op_types_to_quantize=sorted(_BETWEEN),
            nodes_to_quantize=nodes,
            per_channel=True,
            reduce_range=reduce_range,
            activation_type=tools.QuantType.QUInt8,
            weight_type=tools.QuantType.QInt8,
            calibrate_method=tools.CalibrationMethod.MinMax,
            extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
        )
        return quantised.read_bytes()


def trunk_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes to quantise: convolutions with weights inside and what stands between them and the trunk's
    outputs, as far as it can be computed on bytes. Nodes that the head's inputs reach are left alone."""
    graph = model.graph
    inside = {tensor.name for tensor in graph.initializer}
    head = {value.name for value in graph.input} - set(FRAME_INPUTS) - inside
    reached = set(head)
    trunk: set[str] = set()
    for node in graph.node:  # in topological order
        if reached.intersection(node.input):
            reached.update(node.output)
            continue
        begins = node.op_type == "Conv" and node.input[1] in inside
        if begins or (node.op_type in _BETWEEN and trunk.intersection(node.input)):
            trunk.update(node.output)
    needed = set(FEATURE_OUTPUTS)
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
    return [node.name for node in graph.node if (trunk & needed).intersection(node.output)]


def full_range() -> bool:
    """Whether this processor sums byte products without saturation, so that weights may use all eight bits."""
    return bool(_FULL_RANGE_FLAGS.intersection(cpu_flags()))


def cpu_flags() -> frozenset[str]:
    """Instruction sets of this processor, by the names of Linux; empty where they cannot be read."""
    try:
        lines = _CPU_FILE.read_text().splitlines()
    except OSError:
        return frozenset()
    found = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset(found.partition(":")[2].split())


def _reader(bundle: Bundle, calibration: Sequence[Tensors]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Frames(CalibrationDataReader):
        def __init__(self) -> None:
            self._frames = iter(calibration)

        def get_next(self) -> dict[str, Any] | None:
            frame = next(self._frames, None)
            return None if frame is None else {**frame, **bundle.head}

    return Frames()


@contextlib.contextmanager
def _one_line(source: Path) -> Iterator[None]:
    """The tools talk on stdout and through the root logger, and raise whatever comes; here it is one RobinError."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except (RobinError, OSError):
        raise
    except Exception as exc:
        reason = str(exc).strip().splitlines()
        text = reason[0] if reason else type(exc).__name__
        raise RobinError(Code.ENGINE_FAILED, f"{source}: quantisation refused it: {text}") from None
    finally:
        logging.disable(before)

"""ONNX Runtime's providers for NVIDIA GPUs, CUDA and TensorRT; head weights stand on the device, in two sets."""

from __future__ import annotations

from robin_perception.engines.base import EngineConfig
from robin_perception.engines.ort import session as ort_session
from robin_perception.engines.ort.engine import OnnxRuntimeEngine
from robin_perception.engines.ort.session import Provider
from robin_perception.engines.tensorrt.probe import driver_findings
from robin_perception.model.bundle import Bundle

_CUDA = "CUDAExecutionProvider"
_TENSORRT = "TensorrtExecutionProvider"


class OnnxRuntimeCudaEngine(OnnxRuntimeEngine):
    """ONNX Runtime's CUDA provider, float32."""

    name = "onnxruntime-cuda"
    device = "cuda"

    def providers(self) -> tuple[Provider, ...]:
        return (_cuda(),)


class OnnxRuntimeTensorRtEngine(OnnxRuntimeCudaEngine):
    """ONNX Runtime's TensorRT provider: builds when the session opens, which takes minutes. It keeps nothing on disk:
    its cache is not keyed by all that an engine depends on. It computes in TF32 where the GPU can, unless the
    environment has NVIDIA_TF32_OVERRIDE=0: the provider has no option for it."""

    name = "onnxruntime-tensorrt"

    def providers(self) -> tuple[Provider, ...]:
        return ((_TENSORRT, {"device_id": 0, "trt_engine_cache_enable": False}), _cuda())


def cuda_unavailable_reason(bundle: Bundle, config: EngineConfig) -> str | None:
    """Why the CUDA provider cannot run here, as far as that shows without opening the device."""
    return _unavailable_reason(bundle, config, _CUDA)


def tensorrt_unavailable_reason(bundle: Bundle, config: EngineConfig) -> str | None:
    """The same for the TensorRT provider."""
    return _unavailable_reason(bundle, config, _TENSORRT)


def _unavailable_reason(bundle: Bundle, config: EngineConfig, provider: str) -> str | None:
    for finding in driver_findings():
        if not finding.ok:
            return f"{finding.name}: {finding.found}; {finding.remedy}"
    return ort_session.unavailable_reason(bundle, config) or ort_session.provider_missing(provider)


def _cuda() -> Provider:
    """Shapes are static: algorithms are searched once, at the first run. TF32, ONNX Runtime's default on Ampere and
    later, has half precision's digits, and this engine is to be single precision."""
    search = {"cudnn_conv_algo_search": "EXHAUSTIVE", "arena_extend_strategy": "kSameAsRequested"}
    return _CUDA, {"device_id": 0, "use_tf32": 0, **search}

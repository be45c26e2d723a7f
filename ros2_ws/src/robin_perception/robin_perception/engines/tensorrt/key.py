"""What a TensorRT engine depends on: its key in the cache. An engine is executed only where every field fits."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from robin_perception.engines.tensorrt.graph import Precision
from robin_perception.model.bundle import NETWORK_FILE, Bundle

KIND = "tensorrt"
PLAN_FILE = "engine.plan"
LOG_FILE = "build.log"
GRAPH_FORMAT = 1  # to be counted up with every change of tensorrt_graph that changes what is built


@dataclass(frozen=True)
class Gpu:
    """The device an engine runs on. compute: capability such as "8.7". driver: the CUDA version that it supports."""

    name: str
    uuid: str
    compute: str
    memory_bytes: int
    driver: str


def engine_key(bundle: Bundle, gpu: Gpu, tensorrt_version: str, precision: Precision) -> dict[str, str]:
    """The key of the bundle's engine."""
    return bundle_key(bundle, precision) | _device_key(gpu, tensorrt_version)


def bundle_key(bundle: Bundle, precision: Precision) -> dict[str, str]:
    """The part of ``engine_key`` that is known without a device. The head's values are not in it, its shapes are:
    weights are inputs."""
    manifest = bundle.manifest
    shapes = ";".join(f"{spec.name}{list(spec.shape)}" for spec in sorted(manifest.head, key=lambda spec: spec.name))
    return {
        "kind": KIND,
        "bundle": manifest.name,
        "network": manifest.files[NETWORK_FILE],
        "head": hashlib.sha256(shapes.encode()).hexdigest()[:16],
        "input": f"{manifest.input_width}x{manifest.input_height}",
        "precision": precision,
        "graph": str(GRAPH_FORMAT),
    }


def prelude_key(frame_size: tuple[int, int], graph: bytes, gpu: Gpu, tensorrt_version: str) -> dict[str, str]:
    """The key of the engine that turns a camera's bytes into the network's inputs; ``frame_size`` width, height."""
    return {
        "kind": f"{KIND}-prelude",
        "camera": f"{frame_size[0]}x{frame_size[1]}",
        "network": hashlib.sha256(graph).hexdigest(),
    } | _device_key(gpu, tensorrt_version)


def _device_key(gpu: Gpu, tensorrt_version: str) -> dict[str, str]:
    return {
        "gpu": gpu.name,
        "gpu_uuid": gpu.uuid,
        "compute": gpu.compute,
        "cuda": gpu.driver,
        "tensorrt": tensorrt_version,
    }

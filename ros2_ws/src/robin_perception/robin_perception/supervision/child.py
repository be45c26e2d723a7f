"""The engine's process: ``python -m robin_perception.supervision.child SOCKET MEMORY PARENT``, see ``process.py``.

It loads its own engine from the bundle's path and answers one call at a time. It knows nothing of ROS, and it ends with
its parent: by the end of the stream, and inside a call that never returns by the kernel.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys
import time
from pathlib import Path

import numpy as np

from robin_perception.core.errors import Code, RobinError
from robin_perception.core.parent_death import end_with_parent
from robin_perception.engines import Engine, EngineConfig, make_engine
from robin_perception.engines.base import HEAD_SETS, HeadSet
from robin_perception.engines.registry import make_for_auto
from robin_perception.model.bundle import INSTANCE_OUTPUTS, NETWORK_FILE, Bundle, TensorSpec, load_bundle
from robin_perception.supervision.channel import Channel, ChannelClosed, Message, TensorBlock
from robin_perception.supervision.warm_up import bare_belt


def main(arguments: list[str]) -> int:
    """Serve until the parent closes its end; the exit status."""
    descriptor, memory, parent = map(int, arguments)
    end_with_parent(parent)
    for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C and a service's stop are the parent's to act on
        signal.signal(number, signal.SIG_IGN)
    os.set_inheritable(descriptor, False)
    os.set_inheritable(memory, False)
    channel = Channel(socket.socket(fileno=descriptor))
    try:
        server = _started(channel, channel.receive(), memory)
        while server is not None:
            channel.send(server.answer(channel.receive()))
    except ChannelClosed:
        return 0
    return 1


class Server:
    """The engine and the memory it shares. One call at a time, so it takes the place of ``Engine.run``'s lock."""

    def __init__(self, engine: Engine, block: TensorBlock) -> None:
        self.engine = engine
        views = block.views
        self._inputs = {name: views[name] for name in engine.inputs}
        self._outputs = {name: views[name] for name in engine.outputs if name in views}
        self._weights = {name: views[name] for name in engine.bundle.head}
        self._heads: list[HeadSet | None] = [None] * HEAD_SETS
        engine.output_buffers = self._outputs.__getitem__  # an engine that can writes its answer where it is read

    def answer(self, request: Message) -> Message:
        """The reply to one request; what the engine raises travels as code and text."""
        begin = time.perf_counter()
        try:
            reply = self._load(int(request["set"])) if request["do"] == "load" else self._run(request)
        except Exception as exc:
            reply = _failure(exc)
        return {"id": request["id"], "ms": (time.perf_counter() - begin) * 1e3, **reply}

    def warm_up(self) -> None:
        """One run on a bare belt, so that the first frame does not pay for what is loaded late."""
        bare_belt(self._inputs)
        for name, weights in self.engine.bundle.head.items():
            self._weights[name][:] = weights
        self._load(0)
        self._run({"set": 0, "outputs": INSTANCE_OUTPUTS})

    def _load(self, index: int) -> Message:
        self._heads[index] = None
        head = HeadSet(index, {name: np.array(view) for name, view in self._weights.items()})
        self.engine._load_head(head)
        self._heads[index] = head
        return {}

    def _run(self, request: Message) -> Message:
        head = self._heads[request["set"]]
        if head is None:
            raise RobinError(Code.ENGINE_FAILED, f"head set {request['set']} was never loaded")
        results = self.engine._run(dict(self._inputs), tuple(request["outputs"]), head)
        for name in request["outputs"]:
            value, place = results.get(name), self._outputs[name]
            if value is None or value.shape != place.shape or value.dtype != place.dtype:
                got = "missing" if value is None else f"{value.dtype} {list(value.shape)}"
                need = f"{place.dtype} {list(place.shape)}"
                raise RobinError(Code.ENGINE_OUTPUT_INVALID, f"output '{name}' is {got}, needs {need}")
            if not np.may_share_memory(value, place):
                np.copyto(place, value)
        return {"stages": self.engine.stage_ms}


def _started(channel: Channel, order: Message, memory: int) -> Server | None:
    """Load what was ordered and say so, or say why not."""
    begin = time.perf_counter()
    try:
        sys.path[:] = order["path"]
        if order["module"]:
            importlib.import_module(order["module"])
        bundle = load_bundle(Path(order["bundle"]))
        _same_network(bundle, order["network_sha256"])
        make = make_for_auto if order["by_auto"] else make_engine
        engine = make(order["engine"], bundle, EngineConfig.model_validate(order["config"]))
        block = TensorBlock([TensorSpec.model_validate(spec) for spec in order["tensors"]], memory)
        block.close_descriptor()
        server = Server(engine, block)
        server.warm_up()
    except Exception as exc:
        channel.send(_failure(exc))
        return None
    facts = {"engine": engine.name, "describe": engine.describe()}
    channel.send({"ready": facts, "ms": (time.perf_counter() - begin) * 1e3})
    return server


def _same_network(bundle: Bundle, sha256: str) -> None:
    if bundle.manifest.files[NETWORK_FILE] != sha256:
        raise RobinError(Code.MODEL_HASH_MISMATCH, f"{bundle.network_path}: was exchanged while it was in use")


def _failure(exc: Exception) -> Message:
    if isinstance(exc, RobinError):
        return {"code": int(exc.code), "text": exc.text}
    return {"code": int(Code.ENGINE_FAILED), "text": f"{type(exc).__name__}: {exc}".splitlines()[0]}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

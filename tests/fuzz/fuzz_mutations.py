"""What is done to a valid file: bytes changed, values of a document replaced, the file itself made something else."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

NUMBERS = (0, 1, -1, 255, 65_535, 2**31 - 1, -(2**31), 2**32 - 1, 2**63, 10**19, 10**400, 0.5, 1e-320, 1e308, -1e308)
TEXTS = ("", ".", "..", "../../x", "/etc/passwd", "a" * 3000, "\x00", "\n", "\x1b[2J", "ä" * 200, "NaN", "1e999", "<b>")
HOSTILE: tuple[Any, ...] = (*NUMBERS, *TEXTS, None, True, [], {}, [[]], [0] * 500, {"a": {}}, [1, "a", None])
OPERATORS = ("Loop", "If", "Tile", "Expand", "Range", "Conv", "NonZero", "Relu", "Einsum", "Resize", "CumSum")
MAGIC = tuple(n.to_bytes(size, "little", signed=False) for size in (1, 4, 8) for n in (0, 1, 2 ** (8 * size) - 1))
BOMBS = (b"[" * 50_000, b'{"a":' * 20_000, b"- " * 3000, b"\xff" * 1000, b"\x00" * 100_000, b"", b"\n" * 1000)


def mutate(folder: Path, rng: random.Random) -> str:
    """Change one to three files below ``folder``; returns what was done, for the report of a failure."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    done = []
    for path in rng.sample(files, min(len(files), rng.choice((1, 1, 1, 2, 3)))):
        change = rng.choice(_changes_of(path))
        change(path, rng)
        done.append(f"{path.name}: {change.__name__}")
    if rng.random() < 0.7:
        _tell_hashes(folder)
    return ", ".join(done)


Change = Callable[[Path, random.Random], None]


def _changes_of(path: Path) -> tuple[Change, ...]:
    documents = {".json": _json_values, ".jsonl": _json_values, ".yaml": _yaml_values}
    own = documents.get(path.suffix)
    if own is not None:
        return (own, own, own, own, _bytes, _bomb, _kind)
    if path.suffix == ".onnx":
        return (_graph, _graph, _graph, _bytes, _kind)
    return (_bytes, _bytes, _bytes, _bytes, _bomb, _kind)


def _bytes(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 1:
                magic = rng.choice(MAGIC)
                data[at : at + len(magic)] = magic
            case 2:
                del data[at : at + rng.choice((1, 4, 64, 4096))]
            case 3:
                data[at:at] = data[: rng.choice((1, 16, 1024))]
            case 4:
                data[at:at] = rng.randbytes(rng.choice((1, 8, 300)))
            case _:
                del data[max(at, 8) :]
    path.write_bytes(data)


def _bomb(path: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    at = rng.choice((0, len(data) // 2, len(data)))
    path.write_bytes(data[:at] + rng.choice(BOMBS) + data[at:])


def _kind(path: Path, rng: random.Random) -> None:
    """No plain file any more, or one of another size."""
    path.unlink()
    match rng.randrange(6):
        case 0:
            os.mkfifo(path)
        case 1:
            path.symlink_to("/dev/zero")
        case 2:
            path.mkdir()
        case 3:
            path.symlink_to(path)
        case 4:
            with path.open("wb") as stream:
                stream.truncate(1 << 30)
        case _:
            pass


def _json_values(path: Path, rng: random.Random) -> None:
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    at = rng.randrange(len(lines))
    lines[at] = _written(_with_other_values(json.loads(lines[at]), rng))
    path.write_text("\n".join(lines) + "\n", errors="surrogatepass")


def _yaml_values(path: Path, rng: random.Random) -> None:
    path.write_text(_written(_with_other_values(yaml.safe_load(path.read_text()), rng)), errors="surrogatepass")


def _written(document: Any) -> str:
    text = json.dumps(document, ensure_ascii=False)
    return text.replace('"lone"', '"\\ud800"')


def _with_other_values(document: Any, rng: random.Random) -> Any:
    """``document`` with one to three of its values replaced, left out, renamed or wrapped."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(_places(document))
        if not places:
            return document
        holder, key = rng.choice(places)
        match rng.randrange(8):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[rng.choice(TEXTS)] = holder.pop(key)
            case 2:
                for _ in range(rng.choice((1, 60, 300))):
                    holder[key] = [holder[key]]
            case 3:
                holder[key] = "lone"
            case 4 if isinstance(holder, list):
                holder[key:key] = holder * rng.choice((1, 30))
            case _:
                holder[key] = rng.choice(HOSTILE)
    return document


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (holder, key) of a nested document."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        for key in keys:
            found.append((holder, key))
            waiting.append(holder[key])
    return found


def _graph(path: Path, rng: random.Random) -> None:
    """A valid ONNX file whose nodes, attributes or constants are others."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    model = onnx.load_model_from_string(path.read_bytes())
    graph = model.graph
    for _ in range(rng.choice((1, 1, 2))):
        node = rng.choice(graph.node)
        match rng.randrange(6):
            case 0:
                node.op_type = rng.choice(OPERATORS)
            case 1 if node.attribute:
                attribute = rng.choice(node.attribute)
                attribute.i = rng.choice((-1, 0, 2**31, 2**62))
                for at in range(len(attribute.ints)):
                    attribute.ints[at] = rng.choice((-1, 0, 1, 10_000, 2**40))
            case 2 if node.input:
                node.input[rng.randrange(len(node.input))] = rng.choice(graph.node).output[0]
            case 3:
                whole = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT64]
                tensor = rng.choice(whole or list(graph.initializer))
                values = numpy_helper.to_array(tensor).copy()
                if values.size and values.dtype.kind == "i":
                    values.reshape(-1)[rng.randrange(values.size)] = rng.choice((-1, 0, 3, 100_000, 2**40))
                tensor.CopyFrom(numpy_helper.from_array(np.asarray(values), tensor.name))
            case 4:
                del graph.node[rng.randrange(len(graph.node))]
            case _:
                graph.node.extend([node] * rng.choice((1, 5000)))
    path.write_bytes(model.SerializeToString())


def _tell_hashes(folder: Path) -> None:
    """A bundle's manifest tells its files' hashes, as the one who made them would."""
    for manifest in folder.rglob("manifest.json"):
        try:
            values = json.loads(_small(manifest))
            for name in values["files"]:
                values["files"][name] = hashlib.sha256(_small(manifest.parent / name)).hexdigest()
            manifest.write_text(json.dumps(values))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue


def _small(path: Path) -> bytes:
    """A plain file's content: what was made a pipe or a device here is not read here."""
    if not path.is_file() or path.stat().st_size > 10_000_000:
        raise ValueError(f"{path}: not hashed")
    return path.read_bytes()

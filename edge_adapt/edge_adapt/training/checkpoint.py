"""Checkpoints without pickle: tensors as safetensors, the rest as JSON, each folder written aside and renamed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from robin_perception.core.bounded import read_plain_bytes
from robin_perception.core.disk import sync_folder, write_error, write_synced
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.scene import CLASSES

STATE_BYTES = 64_000_000
_TENSORS = "state.safetensors"
_STATE = "state.json"


def save_checkpoint(
    folder: Path, network: nn.Module, average: nn.Module | None, optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> None:
    """Replace ``folder`` by a checkpoint of the network, its averaged copy where it has one, AdamW's moments and
    ``state``, or leave it as it was. Raises RobinError DISK_FULL or OPTION_INVALID naming the folder."""
    tensors: dict[str, Tensor] = {}
    for prefix, module in (("network", network), ("average", average)):
        values = {} if module is None else module.state_dict()
        tensors |= {f"{prefix}.{name}": value.detach().contiguous() for name, value in values.items()}
    for index, entry in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value).contiguous() for name, value in entry.items()}
    aside = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        write_synced(aside / _TENSORS, save(tensors))
        write_synced(aside / _STATE, json.dumps(state, indent=1).encode())
        sync_folder(aside)
        previous = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(previous, ignore_errors=True)
        if folder.exists():
            folder.rename(previous)
        aside.rename(folder)
        sync_folder(folder.parent)
    except OSError as exc:
        shutil.rmtree(aside, ignore_errors=True)
        raise write_error(folder, exc) from None
    shutil.rmtree(previous, ignore_errors=True)


def find_checkpoint(folder: Path) -> Path | None:
    """The checkpoint at ``folder``; or the one before it, if a run ended between the two renames."""
    for candidate in (folder, folder.with_name(f".{folder.name}.old")):
        if (candidate / _STATE).is_file() and (candidate / _TENSORS).is_file():
            return candidate
    return None


def read_state(folder: Path) -> dict[str, Any]:
    """What ``save_checkpoint`` was given as ``state``. Raises RobinError INPUT_UNREADABLE."""
    path = folder / _STATE
    data = read_plain_bytes(path, STATE_BYTES)
    try:  # by the standard library, which takes folder names that are no text
        state = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise RobinError(Code.INPUT_UNREADABLE, f"{path}: {exc}") from None
    if not isinstance(state, dict):
        raise RobinError(Code.INPUT_UNREADABLE, f"{folder / _STATE}: expected a mapping")
    return state


def state_classes(state: dict[str, Any]) -> tuple[str, ...]:
    """What a checkpoint's network tells apart; where ``state`` does not say it, the classes of the shipped bundle."""
    return tuple(state.get("classes", CLASSES))


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    try:
        return load((folder / _TENSORS).read_bytes())
    except Exception as exc:  # safetensors raises its own untyped errors
        raise RobinError(Code.INPUT_UNREADABLE, f"{folder / _TENSORS}: {str(exc).splitlines()[0]}") from None


def load_module(folder: Path, module: nn.Module, prefix: str) -> None:
    """Fill ``module`` with the tensors under ``prefix`` ("network" or "average")."""
    _fill(module, _read_tensors(folder), prefix, folder)


def _fill(module: nn.Module, tensors: dict[str, Tensor], prefix: str, folder: Path) -> None:
    own = {name.removeprefix(f"{prefix}."): v for name, v in tensors.items() if name.startswith(f"{prefix}.")}
    try:
        module.load_state_dict(own)
    except RuntimeError:
        raise RobinError(Code.MODEL_TENSOR_MISSING, f"{folder}: not a checkpoint of this network's shape") from None


def load_checkpoint(
    folder: Path, network: nn.Module, average: nn.Module | None, optimizer: torch.optim.Optimizer
) -> None:
    """Restore the tensors that ``save_checkpoint`` wrote."""
    tensors = _read_tensors(folder)
    _fill(network, tensors, "network", folder)
    if average is not None:
        _fill(average, tensors, "average", folder)
    entries: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            entries.setdefault(int(index), {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": entries, "param_groups": groups})

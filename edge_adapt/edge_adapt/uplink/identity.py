"""CURVE keys on the disk: files that their owner alone may read."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

import zmq
from pydantic import Field, ValidationError

from robin_perception.core.bounded import parse_json, read_plain_bytes
from robin_perception.core.config import StrictConfig, first_fault
from robin_perception.core.disk import make_folder, sync_folder, write_error
from robin_perception.core.errors import Code, RobinError

IDENTITY_FILE = "identity.json"
Z85 = r"^[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}$"
"""A CURVE key as text."""
_FILE_BYTES = 10_000


class KeyPair(StrictConfig):
    """A CURVE pair, each key 40 characters of Z85."""

    public: str = Field(pattern=Z85)
    secret: str = Field(pattern=Z85, repr=False)


class Identity(KeyPair):
    """Who a robot is to its fleet, and who the fleet is to it."""

    endpoint: str = Field(max_length=300, pattern=r"^tcp://[^\s]+:[0-9]{1,5}$")
    server_key: str = Field(pattern=Z85)
    robot: str = Field(max_length=128)


def new_key_pair() -> KeyPair:
    public, secret = zmq.curve_keypair()
    return KeyPair(public=public.decode(), secret=secret.decode())


def write_private(path: Path, content: StrictConfig) -> None:
    """A file of mode 0600 in place of what was there; durable. Raises RobinError OPTION_INVALID, DISK_FULL."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    make_folder(path.parent)
    try:
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(handle, "wb") as stream:
            os.fchmod(handle, 0o600)
            stream.write(content.model_dump_json(indent=1).encode())
            stream.flush()
            os.fsync(handle)
        os.replace(aside, path)
        sync_folder(path.parent)
    except OSError as exc:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise write_error(path, exc) from None


def read_private(path: Path, kind: type[KeyPair], code: Code) -> KeyPair:
    """Raises RobinError INPUT_MISSING, and ``code`` for a file that is damaged or that others may read."""
    data = read_plain_bytes(path, _FILE_BYTES)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise RobinError(code, f"{path}: others may read it; make new keys, or chmod 600 where you trust it")
    try:
        return kind.model_validate(parse_json(data, str(path), code))
    except ValidationError as exc:
        raise RobinError(code, f"{path}: {first_fault(exc)}") from None


def load_identity(folder: Path) -> Identity:
    """Raises RobinError UPLINK_NOT_ENROLLED, UPLINK_IDENTITY_INVALID."""
    path = folder / IDENTITY_FILE
    try:
        found = read_private(path, Identity, Code.UPLINK_IDENTITY_INVALID)
    except RobinError as exc:
        if exc.code is not Code.INPUT_MISSING:
            raise RobinError(Code.UPLINK_IDENTITY_INVALID, exc.text) from None
        text = f"{path}: not there; robin uplink enrol tcp://host:port --token T --server-key K makes it"
        raise RobinError(Code.UPLINK_NOT_ENROLLED, text) from None
    assert isinstance(found, Identity)
    return found

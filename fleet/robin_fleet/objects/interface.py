"""The narrow interface of every object store, and the names that objects may have."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Protocol

from edge_adapt.store.blobs import blob_name
from robin_perception.core.errors import Code, RobinError

OBJECT_BYTES = 256_000_000
"""Of one object, at most."""
_BLOB = re.compile(r"[0-9a-f]{64}(\.[a-z0-9]{1,16})?")
_KEY = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)+")
_LONGEST_NAME = 200


class Objects(Protocol):
    """Create-only, durable, safe to use from several threads. Names: those of blobs (sha256 and suffix), or
    ``area/…`` of ``[a-z0-9._/-]``. All raise RobinError OBJECTS_UNREACHABLE, and BLOB_REFUSED for another name."""

    def put(self, name: str, data: bytes) -> bool:
        """Durable when it returns. False: it was there. Raises RobinError OBJECT_TAKEN where it was there with other
        bytes, BLOB_REFUSED where a blob is not what its name says, DISK_FULL."""

    def put_all(self, blobs: Mapping[str, bytes]) -> None:
        """Many blobs for little more than the price of one; raises as ``put``, and some of them may be there then."""

    def get(self, name: str) -> bytes:
        """Raises RobinError OBJECT_MISSING, and OBJECT_DAMAGED for a blob that is not what its name says."""

    def size(self, name: str) -> int | None:
        """Bytes; None where it is not there."""

    def names(self, prefix: str = "") -> Iterator[str]:
        """Those that begin with ``prefix``, in no order."""

    def remove(self, name: str) -> bool:
        """False where there was none."""

    def close(self) -> None:
        """It is not used any more."""


def is_blob(name: str) -> bool:
    return _BLOB.fullmatch(name) is not None


def require_name(name: str) -> None:
    """Raises RobinError BLOB_REFUSED."""
    if len(name) > _LONGEST_NAME or not (is_blob(name) or _KEY.fullmatch(name)):
        raise RobinError(Code.BLOB_REFUSED, f"'{name}': no name of an object: area/name of a-z 0-9 . _ - is needed")


def require_content(name: str, data: bytes) -> None:
    """Raises RobinError BLOB_REFUSED for a blob that is not what its name says, and for what is too large."""
    if len(data) > OBJECT_BYTES:
        raise RobinError(Code.BLOB_REFUSED, f"{name}: {len(data):,} bytes, {OBJECT_BYTES:,} are allowed")
    if is_blob(name) and blob_name(data) != name[:64]:
        raise RobinError(Code.BLOB_REFUSED, f"{name}: its content is not what its name says")


def flat_key(name: str) -> str:
    """``area/rest`` of a key, with one "/": stores that keep folders know no key that begins with another one."""
    area, _, rest = name.partition("/")
    return f"{area}/{rest.replace('/', '=')}"


def key_of(flat: str) -> str:
    return flat.replace("=", "/")

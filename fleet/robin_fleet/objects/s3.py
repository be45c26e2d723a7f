"""Objects in a bucket of an S3, through obstore: ``blobs/`` and ``areas/`` below the prefix.

An S3 decides itself what it calls durable. Robots therefore ask a second time before they let go of anything.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qsl

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import S3Store

from edge_adapt.store.blobs import blob_name
from robin_fleet.objects.interface import OBJECT_BYTES, flat_key, is_blob, key_of, require_content, require_name
from robin_perception.core.errors import Code, RobinError

if TYPE_CHECKING:
    from obstore.store import S3Config

_AT_A_TIME = 8
_BLOBS, _AREAS = "blobs", "areas"
_SETTINGS = frozenset({"endpoint", "region"})
_MISSING = (NotFoundError, FileNotFoundError)


def open_s3(url: SplitResult) -> S3Objects:
    """``s3://bucket/prefix?endpoint=…&region=…``; keys from the environment. Raises RobinError OPTION_INVALID,
    OBJECTS_UNREACHABLE, OBJECTS_UNFIT."""
    settings = dict(parse_qsl(url.query))
    if unknown := next(iter(settings.keys() - _SETTINGS), None):
        raise RobinError(Code.OPTION_INVALID, f"objects: unknown '{unknown}', known are {', '.join(sorted(_SETTINGS))}")
    name = f"s3://{url.netloc}{url.path}"
    config: S3Config = {
        "region": settings.get("region", "us-east-1"),
        "checksum_algorithm": "SHA256",  # the server compares it with what has arrived
    }
    if "endpoint" in settings:
        config["endpoint"] = settings["endpoint"]
    with _numbered(name):
        store = S3Store(
            url.netloc,
            prefix=url.path.strip("/") or None,
            config=config,
            client_options={"allow_http": True, "connect_timeout": "5s", "timeout": "60s"},
            retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=15)},
        )
    objects = S3Objects(name, store)
    objects.probe()
    return objects


class S3Objects:
    """name: of the bucket, for messages."""

    def __init__(self, name: str, store: S3Store) -> None:
        self.name = name
        self._store = store

    def probe(self) -> None:
        """Raises RobinError OBJECTS_UNFIT where a second create-only PUT succeeds: objects could be overwritten."""
        path = f"{_AREAS}/probe/{secrets.token_hex(8)}"
        with _numbered(self.name):
            obstore.put(self._store, path, b"first", mode="create")
            try:
                with contextlib.suppress(AlreadyExistsError):
                    obstore.put(self._store, path, b"second", mode="create")
                    text = f"{self.name}: overwrites what must only be created (If-None-Match is ignored)"
                    raise RobinError(Code.OBJECTS_UNFIT, text)
            finally:
                with contextlib.suppress(BaseError):  # it may not have the right to
                    obstore.delete(self._store, path)

    def put(self, name: str, data: bytes) -> bool:
        require_name(name)
        require_content(name, data)
        with _numbered(self.name):
            try:
                obstore.put(self._store, _path(name), data, mode="create")
            except AlreadyExistsError:
                return self._there_already(name, data)
            return True

    def _there_already(self, name: str, data: bytes) -> bool:
        """A blob that was damaged is put right."""
        if self._read(name) != data:
            if not is_blob(name):
                raise RobinError(Code.OBJECT_TAKEN, f"{name}: is there with other content")
            obstore.put(self._store, _path(name), data)
        return False

    def put_all(self, blobs: Mapping[str, bytes]) -> None:
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            for _ in pool.map(self.put, blobs.keys(), blobs.values()):
                pass

    def get(self, name: str) -> bytes:
        require_name(name)
        with _numbered(self.name):
            try:
                data = self._read(name)
            except _MISSING:
                raise RobinError(Code.OBJECT_MISSING, f"{self.name}: {name} is not there") from None
        if is_blob(name) and blob_name(data) != name[:64]:
            raise RobinError(Code.OBJECT_DAMAGED, f"{self.name}: {name}: its content is not what its name says")
        return data

    def size(self, name: str) -> int | None:
        require_name(name)
        with _numbered(self.name):
            try:
                return int(obstore.head(self._store, _path(name))["size"])
            except _MISSING:
                return None

    def names(self, prefix: str = "") -> Iterator[str]:
        with _numbered(self.name):
            for place in (_BLOBS, _AREAS):
                for page in obstore.list(self._store, place):
                    names = (key_of(str(one["path"]).removeprefix(f"{place}/")) for one in page)
                    yield from (name for name in names if name.startswith(prefix))

    def remove(self, name: str) -> bool:
        if self.size(name) is None:
            return False
        with _numbered(self.name):
            obstore.delete(self._store, _path(name))
        return True

    def close(self) -> None:
        """Connections end by themselves."""

    def _read(self, name: str) -> bytes:
        found = obstore.get(self._store, _path(name))
        if found.meta["size"] > OBJECT_BYTES:
            raise RobinError(Code.OBJECT_DAMAGED, f"{self.name}: {name}: {found.meta['size']:,} bytes")
        return bytes(found.bytes())


def _path(name: str) -> str:
    return f"{_BLOBS}/{name}" if is_blob(name) else f"{_AREAS}/{flat_key(name)}"


@contextlib.contextmanager
def _numbered(name: str) -> Iterator[None]:
    try:
        yield
    except _MISSING:
        raise RobinError(Code.OBJECTS_UNREACHABLE, f"{name}: no such bucket") from None
    except BaseError as exc:
        said = next((line.strip() for line in str(exc).splitlines() if line.strip()), type(exc).__name__)
        raise RobinError(Code.OBJECTS_UNREACHABLE, f"{name}: {said}") from None

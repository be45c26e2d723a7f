"""What the aggregator keeps of bytes: blobs named by their content, and keys of an area; nothing ever changes."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from robin_fleet.objects.interface import Objects
from robin_perception.core.errors import Code, RobinError


def open_objects(url: str) -> Objects:
    """``file:///folder``, or ``s3://bucket/prefix?endpoint=https://host`` with keys in the environment
    (``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``). Raises RobinError OBJECTS_UNREACHABLE, OBJECTS_UNFIT,
    OPTION_INVALID."""
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.path and not parts.netloc:
        from robin_fleet.objects.own_folder import FolderObjects

        return FolderObjects(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        from robin_fleet.objects.s3 import open_s3

        return open_s3(parts)
    raise RobinError(Code.OPTION_INVALID, f"objects '{url}': file:///folder or s3://bucket/prefix is needed")

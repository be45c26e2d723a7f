"""Heavy work, part by part: on this machine's processes, on Dask, on Ray."""

from __future__ import annotations

from urllib.parse import urlsplit

from robin_fleet.compute.interface import Compute
from robin_perception.core.errors import Code, RobinError


def open_compute(url: str) -> Compute:
    """``processes://N`` (0: one per core), ``dask://host:port`` or ``dask://local``, ``ray://host:port`` or
    ``ray://local``. Raises RobinError COMPUTE_UNREACHABLE, OPTION_INVALID, DEPENDENCY_MISSING."""
    parts = urlsplit(url)
    place = parts.netloc
    if parts.scheme == "processes" and place.isdecimal():
        from robin_fleet.compute.processes import ProcessCompute

        return ProcessCompute(int(place))
    if parts.scheme == "dask" and place:
        from robin_fleet.compute.on_dask import DaskCompute

        return DaskCompute(None if place == "local" else f"tcp://{place}")
    if parts.scheme == "ray" and place:
        from robin_fleet.compute.on_ray import RayCompute

        return RayCompute(None if place == "local" else place)
    text = f"compute '{url}': processes://N, dask://host:port, dask://local, ray://host:port or ray://local is needed"
    raise RobinError(Code.OPTION_INVALID, text)

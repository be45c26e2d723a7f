"""The uplink as a process of its own: ``python -m edge_adapt.uplink.run CONFIG``, as JSON. It ends with its parent."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import types
from collections.abc import Callable, Iterator
from typing import BinaryIO

from pydantic import ValidationError

from edge_adapt.uplink.client import UplinkClient
from edge_adapt.uplink.config import UplinkConfig
from edge_adapt.uplink.identity import load_identity
from robin_perception.core.config import first_fault
from robin_perception.core.disk import make_folder, write_error
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.output import lock_stream

LOCK_FILE = "lock"
_NICE = 10
_EXIT_FAILURE = 1


@contextlib.contextmanager
def own_folder(config: UplinkConfig) -> Iterator[None]:
    """One process sends from a folder. Raises RobinError UPLINK_BUSY, DISK_FULL, OPTION_INVALID."""
    make_folder(config.folder)
    path = config.folder / LOCK_FILE
    try:
        stream: BinaryIO = path.open("ab")
    except OSError as exc:
        raise write_error(path, exc) from None
    with stream:
        try:
            lock_stream(stream, path)
        except RobinError:
            raise RobinError(Code.UPLINK_BUSY, f"{config.folder}: another process sends from here") from None
        yield


def run(
    config: UplinkConfig,
    stop: Callable[[], bool] = lambda: False,
    told: Callable[[UplinkClient], object] = lambda client: None,
) -> None:
    """Send until told to stop. told: called after each round. Raises RobinError UPLINK_NOT_ENROLLED,
    UPLINK_IDENTITY_INVALID, UPLINK_BUSY, DISK_FULL."""
    with own_folder(config):
        client = UplinkClient(config, load_identity(config.folder))

        def over() -> bool:
            told(client)
            return stop()

        try:
            client.run(over)
        finally:
            client.close()


def main(argument: str) -> int:
    try:
        config = UplinkConfig.model_validate_json(argument)
    except ValidationError as exc:
        print(f"E{int(Code.CONFIG_OUT_OF_RANGE)} {first_fault(exc)}", file=sys.stderr)
        return _EXIT_FAILURE
    ended = False

    def end(number: int, frame: types.FrameType | None) -> None:
        nonlocal ended
        ended = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    parent = os.getppid()
    try:
        run(config, lambda: ended or os.getppid() != parent)
    except RobinError as exc:
        print(exc, file=sys.stderr)
        return _EXIT_FAILURE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

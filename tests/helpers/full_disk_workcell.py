"""The workcell process; after SIGUSR1 no file can grow beyond a few bytes, as on a disk that is full."""

import os
import resource
import signal
import sys

from robin_bringup.nodes.workcell import main


def fill_disk(*_: object) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    os.write(1, b"the disk is full\n")  # before: the log is a file too
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))  # only now: DDS has made its shared memory files


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, fill_disk)
    sys.exit(main())

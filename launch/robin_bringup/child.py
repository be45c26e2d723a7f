"""``python -m robin_bringup.child MODULE ARGUMENTS...``: runs a node's ``main`` in a process that ends with its parent.

Without this a station whose runner was killed would go on with nobody to stop it, and a second one would meet it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from importlib import import_module

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """Have the kernel send SIGTERM when the parent dies (Linux; elsewhere nothing is done)."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before we asked
        sys.exit(1)


def main() -> int:
    """argv: module, process id of the parent, then the node's own arguments."""
    module, parent = sys.argv[1], int(sys.argv[2])
    end_with_parent(parent)
    sys.argv[:3] = [module]
    return int(import_module(module).main() or 0)


if __name__ == "__main__":
    sys.exit(main())

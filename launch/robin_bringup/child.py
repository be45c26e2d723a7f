"""``python -m robin_bringup.child MODULE ARGUMENTS...``: runs a node's ``main`` in a process that ends with its parent.

Without this a station whose runner was killed would go on with nobody to stop it, and a second one would meet it.
"""

from __future__ import annotations

import signal
import sys
from importlib import import_module

from robin_perception.core.last_resort import EXIT_BUG, internal_error
from robin_perception.core.parent_death import end_with_parent


def main() -> int:
    """argv: module, process id of the parent, then the node's own arguments."""
    module, parent = sys.argv[1], int(sys.argv[2])
    end_with_parent(parent, signal.SIGTERM)  # nodes finish what they have in hand
    sys.argv[:3] = [module]
    try:
        return int(import_module(module).main() or 0)
    except Exception as exc:
        print(f"error {internal_error(exc, sys.argv)}", file=sys.stderr)
        return EXIT_BUG


if __name__ == "__main__":
    sys.exit(main())

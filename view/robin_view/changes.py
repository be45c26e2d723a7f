"""Changes from the page: allowed at the start or not at all, asked for by our own pages only, each written down."""

from __future__ import annotations

import json
import os
import threading
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from starlette.requests import Request

from robin_perception.core.disk import make_folder, write_error
from robin_perception.core.errors import Code, RobinError
from robin_view.security import PAGE_TOKEN, same_word


class Audit:
    """``audit.jsonl``: who changed what, and when. Lines are only ever appended. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def write(self, who: str, action: str, **what: Any) -> None:
        """Durable when it returns. Call it before the change: one that nobody can write down is not made.
        Raises RobinError DISK_FULL."""
        at = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = json.dumps({"at": at, "who": who, "action": action, **what}, ensure_ascii=True) + "\n"
        make_folder(self.path.parent)
        try:
            with self._lock, self.path.open("ab") as stream:
                stream.write(line.encode())
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as exc:
            raise write_error(self.path, exc) from None


def require_changes(request: Request) -> str:
    """The name of who may change something here. A dependency of every route that changes anything.

    Raises RobinError VIEW_READ_ONLY, VIEW_ORIGIN_FOREIGN.
    """
    view = request.app.state.view
    if not view.settings.allow_changes:
        raise RobinError(Code.VIEW_READ_ONLY, "this page only shows; start it with --allow-changes to change anything")
    if not same_word(request.headers.get(PAGE_TOKEN, ""), view.sessions.page_token):
        raise RobinError(Code.VIEW_ORIGIN_FOREIGN, "the request was not made by a page of this server; load it again")
    return str(request.state.who)

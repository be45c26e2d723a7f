"""What a page does once something was changed: it is loaded anew, by htmx."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Form
from starlette.responses import Response

from robin_view.changes import require_changes

Who = Annotated[str, Depends(require_changes)]
Why = Annotated[str, Form(max_length=200)]


def then(address: str) -> Response:
    """Go there. address: of our own, never from a request."""
    return Response(status_code=204, headers={"hx-redirect": address})

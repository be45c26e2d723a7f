"""The page's own small server."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable

from robin_perception.core.errors import Code, RobinError
from robin_view.app import create_app
from robin_view.settings import ViewSettings
from robin_view.sources import Sources

_WAIT_FOR_STREAMS_S = 2
_NICE = 10  # whatever else this machine does comes first: on a robot that is picking


def serve(sources: Sources, settings: ViewSettings, tell: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM. tell: is given lines for the person who started it.
    Raises RobinError OPTION_INVALID, LISTEN_FAILED, and what the sources raise."""
    import uvicorn

    app = create_app(sources, settings)
    with _listening(settings) as door:
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_WAIT_FOR_STREAMS_S,
            ssl_certfile=settings.tls_cert,
            ssl_keyfile=settings.tls_key,
            ssl_ca_certs=str(settings.tls_clients) if settings.tls_clients else None,
            ssl_cert_reqs=ssl.CERT_REQUIRED if settings.tls_clients else ssl.CERT_NONE,
        )
        host, port = door.getsockname()[:2]
        scheme = "https" if settings.secure else "http"
        tell(f"the page is at {scheme}://{f'[{host}]' if ':' in host else host}:{port}/")
        if not settings.loopback and not settings.secure:
            tell("without --tls-cert the token and all that is shown can be read on the way")
        if hasattr(os, "nice"):
            os.nice(_NICE)
        uvicorn.Server(config).run([door])


def _listening(settings: ViewSettings) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=64)
    except OSError as exc:
        raise RobinError(Code.LISTEN_FAILED, f"{settings.host}:{settings.port}: {exc.strerror or exc}") from None

"""Services whose replies are made and sent by a thread of their own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from rclpy.impl.implementation_singleton import rclpy_implementation


def reply_from(pool: Executor, service: Any, answer: Callable[[Any], Any], failed: Callable[[Exception], None]) -> None:
    """Let ``pool`` make the replies of ``service`` and send them. Its callback must return the request itself.

    answer(request) -> response. failed: told what went wrong in sending.
    rclpy's own way, a coroutine, is resumed in the executor's next round only, milliseconds after the reply was ready
    where the process has many services to wait for. So what the executor does with a callback's result is replaced.
    """
    send = service.send_response

    def reply(request: Any, header: Any) -> None:
        try:
            send(answer(request), header)
        except rclpy_implementation.InvalidHandle:
            pass  # the node was destroyed meanwhile: the process ends
        except Exception as exc:
            failed(exc)

    service.send_response = lambda request, header: pool.submit(reply, request, header)

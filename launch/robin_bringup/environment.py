"""The variables that choose domain and middleware, looked at before any process of a station is started."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

from robin_perception.core.errors import Code, RobinError

LARGEST_DOMAIN = 232
"""A larger one has no UDP ports (RTPS 2.5, section 9.6.1.1: 7400 + 250 * domain)."""
_DOMAIN, _MIDDLEWARE = "ROS_DOMAIN_ID", "RMW_IMPLEMENTATION"
_TIMEOUT_S = 30.0
_LOAD = "from rclpy.utilities import get_rmw_implementation_identifier as found; found()"


def require_usable_environment(environ: Mapping[str, str]) -> None:
    """Every node would end over these at its start, again and again. Raises RobinError CONFIG_OUT_OF_RANGE,
    DEPENDENCY_MISSING naming the variable."""
    domain = environ.get(_DOMAIN, "").strip()
    if domain and not (domain.isascii() and domain.isdecimal() and int(domain[:9]) <= LARGEST_DOMAIN):
        raise RobinError(Code.CONFIG_OUT_OF_RANGE, f"{_DOMAIN}={domain}: a number from 0 to {LARGEST_DOMAIN} is needed")
    middleware = environ.get(_MIDDLEWARE, "")
    if middleware and (reason := _not_loaded(environ)):
        text = f"{_MIDDLEWARE}={middleware}: {reason}; install that middleware, or unset the variable"
        raise RobinError(Code.DEPENDENCY_MISSING, text)


def _not_loaded(environ: Mapping[str, str]) -> str:
    """Why rclpy does not load with the middleware, or "". In a process of its own, which it would end."""
    command = [sys.executable, "-c", _LOAD]
    try:
        done = subprocess.run(command, env=environ, capture_output=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"it did not load within {_TIMEOUT_S:g} s"
    if done.returncode == 0:
        return ""
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return said[-1].rpartition("]: ")[2] if said else f"loading it ended a process with status {done.returncode}"
